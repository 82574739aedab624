import java.sql.Connection;
import java.sql.SQLException;

/**
 * The controls: a table of the messages that were worked on, beside the work. "after": look whether the message is noted, do the work, then
 * note it. "before": note the message, then do the work; one that was noted already is left alone.
 */
public class Control extends Consumer {
	private final boolean before;

	private Control(boolean before) {
		this.before = before;
	}

	@Override
	protected String once(Connection db, String id, String account, int amount) throws SQLException {
		if (before) {
			boolean isNew = ask(db, "INSERT INTO noted VALUES (?) ON CONFLICT DO NOTHING RETURNING message", id) != null;
			db.commit();
			if (isNew) {
				work(db, id, account, amount);
				db.commit();
			}
		} else if (ask(db, "SELECT message FROM noted WHERE message = ?", id) == null) {
			work(db, id, account, amount);
			db.commit();
			ask(db, "INSERT INTO noted VALUES (?) ON CONFLICT DO NOTHING RETURNING message", id);
			db.commit();
		}
		return "{}";
	}

	public static void main(String[] args) throws Exception {
		new Control(args[0].equals("before")).run();
	}
}
