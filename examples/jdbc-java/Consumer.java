import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/**
 * Consumes messages, each once: plain JDBC, HikariCP, prepared statements. A message is a line "ID ACCOUNT AMOUNT" of standard input; the
 * consumer says "ack ID ANSWER" when it is booked, "reject ID SQLSTATE" when it never can be, and "nack ID" when it shall come again.
 * JDBC_URL says where the database is.
 */
public class Consumer {
	private static final int THREADS = 4;
	private static final int TRIES = 10;

	/** Claim, work, answer and commit: one transaction. A message that is known gets the answer of then. */
	protected String once(Connection db, String id, String account, int amount) throws SQLException {
		String answer;
		if (ask(db, "SELECT idem_claim('entries', ?, jsonb_build_object('account', ?::text, 'amount', ?::int))", id, account, amount).equals("t")) {
			answer = "{\"entry\": " + work(db, id, account, amount) + "}";
			ask(db, "SELECT idem_respond('entries', ?, ?::json)", id, answer);
		} else {
			answer = ask(db, "SELECT idem_response('entries', ?)", id);
		}
		db.commit();
		return answer;
	}

	/** The work of one message; returns the number of its entry. */
	protected final String work(Connection db, String id, String account, int amount) throws SQLException {
		ask(db, "UPDATE account SET balance = balance + ? WHERE name = ? RETURNING name", amount, account);
		return ask(db, "INSERT INTO entry (message, account, amount) VALUES (?, ?, ?) RETURNING id", id, account, amount);
	}

	/** The first column of the first row, as text; null if there is no row. */
	protected static String ask(Connection db, String query, Object... values) throws SQLException {
		try (PreparedStatement statement = db.prepareStatement(query)) {
			for (int i = 0; i < values.length; i++) {
				statement.setObject(i + 1, values[i]);
			}
			try (ResultSet rows = statement.executeQuery()) {
				return rows.next() ? rows.getString(1) : null;
			}
		}
	}

	/** Tries until it is committed. If the connection is lost nobody knows whether it was: the key does. */
	private String handle(HikariDataSource pool, String line) throws InterruptedException {
		String[] message = line.split(" ");
		for (int tries = 1; tries <= TRIES; tries++) {
			try (Connection db = pool.getConnection()) {
				return "ack " + message[0] + " " + once(db, message[0], message[1], Integer.parseInt(message[2]));
			} catch (SQLException error) {
				String state = error.getSQLState() == null ? "" : error.getSQLState();
				if (state.matches("ID410|ID422") || state.startsWith("22") || state.startsWith("23")) {
					return "reject " + message[0] + " " + state; // too old, another message under this id, or one that cannot be booked
				}
				Thread.sleep(10 * tries);
			} catch (IndexOutOfBoundsException | NumberFormatException error) {
				return "reject " + message[0] + " 22023";
			}
		}
		return "nack " + message[0];
	}

	/** Each wait has an end: for a connection, for its answers, for a statement in the server, for a client that is gone. */
	private static HikariConfig config() {
		HikariConfig config = new HikariConfig();
		config.setJdbcUrl(System.getenv("JDBC_URL"));
		config.setMaximumPoolSize(THREADS);
		config.setAutoCommit(false); // close() rolls back what is not committed
		config.setConnectionTimeout(10000);
		config.setValidationTimeout(5000);
		config.setInitializationFailTimeout(-1); // start also while the database is away
		// HikariCP 2.7.9 asks its first connection for it; if that is lost then, it takes it to be -1, and never connects again
		config.setTransactionIsolation("TRANSACTION_READ_COMMITTED");
		config.addDataSourceProperty("connectTimeout", "5");
		config.addDataSourceProperty("loginTimeout", "8");
		config.addDataSourceProperty("socketTimeout", "5"); // without it an answer that never comes is waited for without end
		config.addDataSourceProperty("options", "-c statement_timeout=4s -c idle_in_transaction_session_timeout=10s");
		config.addDataSourceProperty("prepareThreshold", "1"); // prepared in the server from the first use on
		return config;
	}

	protected final void run() throws Exception {
		ExecutorService threads = Executors.newFixedThreadPool(THREADS);
		try (HikariDataSource pool = new HikariDataSource(config());
				BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
			for (String line; (line = input.readLine()) != null;) {
				String message = line;
				threads.execute(() -> {
					try {
						String verdict = handle(pool, message);
						synchronized (System.out) {
							System.out.println(verdict);
						}
					} catch (InterruptedException error) {
						// it is not acknowledged, and comes again
					}
				});
			}
			threads.shutdown();
			if (!threads.awaitTermination(5, TimeUnit.MINUTES)) {
				System.exit(1); // what it has not acknowledged comes again
			}
		}
	}

	public static void main(String[] args) throws Exception {
		new Consumer().run();
	}
}
