// JDBC: setString is a varchar; the SQLSTATE is getSQLState(). An argument is appended to the URL.
import java.io.*;
import java.math.BigDecimal;
import java.sql.*;
import java.time.OffsetDateTime;
import java.util.*;
import org.postgresql.util.PGInterval;

public class Calls {
	static void set(PreparedStatement s, int i, String kind, String text) throws SQLException {
		switch (kind) {
		case "int" -> s.setInt(i, Integer.parseInt(text));
		case "bigint" -> s.setLong(i, Long.parseLong(text));
		case "numeric" -> s.setBigDecimal(i, new BigDecimal(text));
		case "bool" -> s.setBoolean(i, text.equals("true"));
		case "uuid" -> s.setObject(i, UUID.fromString(text));
		case "time" -> s.setObject(i, OffsetDateTime.parse(text));
		case "interval" -> s.setObject(i, new PGInterval(text));
		case "texts" -> s.setArray(i, s.getConnection().createArrayOf("text", text.split(",")));
		case "ints" -> s.setArray(i, s.getConnection().createArrayOf("integer", Arrays.stream(text.split(",")).map(Integer::valueOf).toArray()));
		case "numerics" -> s.setArray(i, s.getConnection().createArrayOf("numeric", Arrays.stream(text.split(",")).map(BigDecimal::new).toArray()));
		default -> s.setString(i, text);
		}
	}

	static String call(Connection c, String[] line) throws SQLException {
		c.setAutoCommit(!line[0].equals("block"));
		try (PreparedStatement s = c.prepareStatement(line[1].replaceAll("\\$\\d+", "?"))) {
			for (int i = 2; i + 1 < line.length; i += 2)
				set(s, i / 2, line[i], line[i + 1]);
			if (!s.execute())
				return "";
			List<String> rows = new ArrayList<>();
			ResultSet r = s.getResultSet();
			while (r.next()) {
				List<String> row = new ArrayList<>();
				for (int i = 1; i <= r.getMetaData().getColumnCount(); i++)
					row.add(r.getString(i) == null ? "" : r.getString(i));
				rows.add(String.join(",", row));
			}
			return String.join("/", rows);
		} finally {
			if (!c.getAutoCommit())
				c.rollback();
		}
	}

	public static void main(String[] args) throws Exception {
		Connection c = DriverManager.getConnection(args[0], System.getenv("PGUSER"), "");
		System.out.println("version\tJDBC " + c.getMetaData().getDriverVersion());
		BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
		for (String line; (line = in.readLine()) != null; ) {
			try {
				System.out.println("ok\t" + call(c, line.split("\t", -1)));
			} catch (SQLException e) {
				System.out.println("error\t" + e.getSQLState() + "\t" + e.getMessage().replaceAll("\\s+", " "));
			}
		}
	}
}
