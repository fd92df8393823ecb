import java.sql.*;
import java.util.*;

/** Asks over JDBC; prints one line per answer: a name, a tab, the values. */
public class Jdbc {
    static void print(String name, Object... values) {
        StringJoiner line = new StringJoiner("\t").add(name);
        for (Object value : values) line.add(String.valueOf(value));
        System.out.println(line);
    }

    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.setProperty("user", "tester");
        settings.setProperty("options", "-c anabranch.require=exact -c anabranch.at_least=" + args[1]);
        // Binary transfer and named statements from the first execution on.
        settings.setProperty("prepareThreshold", "-1");
        try (Connection connection = DriverManager.getConnection(args[0], settings)) {
            try (Statement statement = connection.createStatement();
                    ResultSet row = statement.executeQuery("SELECT edits, added, editors FROM totals")) {
                row.next();
                print("totals", row.getLong(1), row.getBigDecimal(2).toPlainString(), row.getLong(3));
            }
            String sql = "SELECT channel, hour, edits, average FROM hourly WHERE channel = ? AND edits >= ? AND hour >= ?"
                    + " ORDER BY hour";
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                for (String channel : List.of("#en.wikipedia", "#de.wikipedia")) {
                    statement.setString(1, channel);
                    statement.setLong(2, 10);
                    statement.setTimestamp(3, new Timestamp(0));
                    try (ResultSet rows = statement.executeQuery()) {
                        while (rows.next()) {
                            print("hour", rows.getString(1), rows.getTimestamp(2).toInstant(), rows.getLong(3),
                                    rows.getDouble(4));
                        }
                    }
                }
            }
            DatabaseMetaData metadata = connection.getMetaData();
            try (ResultSet tables = metadata.getTables(null, "public", "%", new String[] {"VIEW"})) {
                while (tables.next()) print("view", tables.getString("TABLE_NAME"));
            }
            try (ResultSet columns = metadata.getColumns(null, "public", "hourly", "%")) {
                while (columns.next()) {
                    print("column", columns.getString("COLUMN_NAME"), columns.getString("TYPE_NAME"),
                            columns.getInt("DATA_TYPE"));
                }
            }
            try (ResultSet schemas = metadata.getSchemas()) {
                while (schemas.next()) print("schema", schemas.getString("TABLE_SCHEM"));
            }
            int keys = 0;
            for (ResultSet rows : List.of(metadata.getPrimaryKeys(null, "public", "hourly"),
                    metadata.getImportedKeys(null, "public", "hourly"),
                    metadata.getIndexInfo(null, "public", "hourly", false, false))) {
                while (rows.next()) keys++;
            }
            print("keys", keys);
            try (ResultSet tables = metadata.getTables(null, "anabranch", "cov%", null)) {
                while (tables.next()) print("system", tables.getString("TABLE_NAME"));
            }
            try (ResultSet catalogs = metadata.getCatalogs()) {
                while (catalogs.next()) print("catalog", catalogs.getString("TABLE_CAT"));
            }
            try (ResultSet types = metadata.getTypeInfo()) {
                while (types.next()) print("type", types.getString("TYPE_NAME"), types.getInt("DATA_TYPE"));
            }
            // What tools call beside; all of them answer, if only with nothing.
            for (ResultSet rows : List.of(metadata.getTableTypes(), metadata.getExportedKeys(null, "public", "hourly"),
                    metadata.getFunctions(null, null, "%"), metadata.getProcedures(null, null, "%"),
                    metadata.getTablePrivileges(null, "public", "hourly"),
                    metadata.getColumnPrivileges(null, "public", "hourly", "%"),
                    metadata.getBestRowIdentifier(null, "public", "hourly", DatabaseMetaData.bestRowSession, true),
                    metadata.getUDTs(null, null, "%", null), metadata.getClientInfoProperties())) {
                while (rows.next()) { }
            }
            metadata.getMaxColumnNameLength();
            try (Statement statement = connection.createStatement();
                    ResultSet row = statement.executeQuery("SELECT make_array(1, 2, NULL), make_array('a,b', NULL)")) {
                row.next();
                for (int column = 1; column <= 2; column++) {
                    Array array = row.getArray(column);
                    print("array", array.getBaseTypeName(), Arrays.toString((Object[]) array.getArray()));
                }
            }
            try (PreparedStatement statement = connection.prepareStatement(
                    "SELECT count(*) FROM hourly WHERE channel = ANY(?) AND edits <> ALL(?)")) {
                for (Object[] edits : List.of(new Object[] {-1L, -2L}, new Object[] {-1L, null})) {
                    statement.setArray(1, connection.createArrayOf("text", new String[] {"#en.wikipedia", "#de.wikipedia"}));
                    statement.setArray(2, connection.createArrayOf("bigint", edits));
                    try (ResultSet row = statement.executeQuery()) {
                        row.next();
                        print("any", row.getLong(1));
                    }
                }
            }
            // A cursor: rows come in portions.
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(1000);
                long pages = 0, edits = 0;
                try (ResultSet rows = statement.executeQuery("SELECT page, edits FROM pages")) {
                    while (rows.next()) {
                        pages++;
                        edits += rows.getLong(2);
                    }
                }
                print("pages", pages, edits);
            }
            connection.commit();
            connection.setAutoCommit(true);
            try (Statement statement = connection.createStatement()) {
                statement.execute("INSERT INTO totals VALUES (1)");
            } catch (SQLException error) {
                print("refused", error.getSQLState());
            }
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                statement.executeQuery("SELECT count(*) FROM pages a, pages b, pages c WHERE a.edits + b.edits > c.edits");
            } catch (SQLException error) {
                print("cancelled", error.getSQLState());
            }
        }
    }
}
