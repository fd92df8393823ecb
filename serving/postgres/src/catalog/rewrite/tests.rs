use super::*;

fn rewritten(sql: &str) -> String {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
    let mut statement = statements.remove(0);
    rewrite(&mut statement);
    statement.to_string()
}

#[test]
fn what_is_always_empty_is_replaced_by_what_it_gives() {
    for (sql, expected) in [
        (
            "SELECT (SELECT adbin FROM pg_attrdef WHERE adrelid = a.attrelid) AS d FROM pg_attribute a",
            "SELECT NULL AS d FROM pg_attribute a",
        ),
        (
            "SELECT relname FROM pg_class c WHERE NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid)",
            "SELECT relname FROM pg_class c WHERE true",
        ),
        (
            "SELECT relname FROM pg_class c WHERE oid NOT IN (SELECT objid FROM pg_depend)",
            "SELECT relname FROM pg_class c WHERE true",
        ),
        (
            "SELECT relname FROM pg_class c LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass",
            "SELECT relname FROM pg_class c LEFT JOIN pg_description d ON false",
        ),
        (
            "SELECT x.n FROM (SELECT unnest(conkey) AS n FROM pg_constraint) AS x",
            "SELECT x.n FROM (SELECT CAST(NULL AS TEXT) AS \"n\" WHERE false) AS x",
        ),
        (
            "SELECT CASE WHEN a.atthasdef THEN (SELECT adbin FROM pg_attrdef) END FROM pg_attribute a",
            "SELECT NULL AS \"case\" FROM pg_attribute a",
        ),
        (
            "SELECT col_description(format('%I', relname)::regclass::oid, 1) FROM pg_class",
            "SELECT NULL AS \"col_description\" FROM pg_class",
        ),
        (
            "SELECT r.rolname, ARRAY(SELECT b.rolname FROM pg_auth_members m JOIN pg_roles b ON m.roleid = b.oid) FROM pg_roles r",
            "SELECT r.rolname, NULL FROM pg_roles r",
        ),
        (
            "SELECT array_to_string(c.relacl, ','), c.reloptions || ARRAY(SELECT x FROM unnest(c.reloptions) x) FROM pg_class c",
            "SELECT NULL, c.reloptions || NULL FROM pg_class c",
        ),
        (
            "SELECT array_to_string(ARRAY(SELECT e.enumlabel FROM pg_enum e WHERE e.enumtypid = t.oid), ',') AS elements FROM pg_type t",
            "SELECT NULL AS elements FROM pg_type t",
        ),
        (
            "SELECT ARRAY(SELECT p.polname || ARRAY(SELECT rolname FROM pg_roles WHERE oid = ANY (polroles)) FROM pg_policy p) AS policies FROM pg_class c",
            "SELECT NULL AS policies FROM pg_class c",
        ),
        (
            "SELECT ARRAY(SELECT nspname FROM pg_namespace ORDER BY 1) AS names",
            "SELECT (SELECT array_agg(nspname) FROM pg_namespace) AS names",
        ),
        (
            "SELECT 1 FROM pg_namespace WHERE nspname NOT LIKE 'pg/_' || '%' ESCAPE '/'",
            "SELECT 1 AS \"?column?\" FROM pg_namespace WHERE nspname NOT LIKE replace(replace('pg/_' || '%', '\\', '\\\\'), '/', '\\')",
        ),
        (
            "SELECT NULL, NULL, 'x' FROM pg_class",
            "SELECT NULL AS \"?column?_1\", NULL AS \"?column?_2\", 'x' AS \"?column?\" FROM pg_class",
        ),
        (
            "SELECT 1 WHERE 1 = (SELECT c.oid FROM pg_class c WHERE c.oid = t.typrelid)",
            "SELECT 1 AS \"?column?\" WHERE 1 = (SELECT first_value(c.oid) AS \"oid\" FROM pg_class c WHERE c.oid = t.typrelid)",
        ),
    ] {
        assert_eq!(rewritten(sql), expected);
    }
}

#[test]
fn what_may_have_rows_stays() {
    for sql in [
        "SELECT count(*) FROM pg_constraint",
        "SELECT relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace",
        "SELECT relname FROM pg_class WHERE oid = (SELECT max(oid) FROM pg_class)",
        "SELECT CASE WHEN true THEN 1 ELSE NULL END AS x",
    ] {
        assert_eq!(rewritten(sql), sql);
    }
}

#[test]
fn the_searched_schemas_are_named() {
    let sql = "SELECT 1 WHERE 'a' IN (\n SELECT\n CASE WHEN trim(s[i]) = '\"$user\"' THEN user ELSE trim(s[i]) END\n FROM\n \
        generate_series(1, 2) as i,\n string_to_array(current_setting('search_path'),',') s\n ) OR true";
    assert_eq!(
        without_search_path(sql),
        "SELECT 1 WHERE 'a' IN (\n 'public'\n ) OR true"
    );
    assert_eq!(without_search_path("SELECT 1"), "SELECT 1");
}

#[test]
fn what_the_library_spells_otherwise_is_read_so() {
    for (sql, expected) in [
        (
            "SELECT p.prsstart::pg_catalog.regproc FROM pg_ts_parser p",
            "SELECT p.prsstart FROM pg_ts_parser p",
        ),
        (
            "SELECT 'pg_catalog.lower(text)'::regprocedure",
            "SELECT (SELECT min(oid) FROM pg_catalog.pg_proc WHERE proname = 'lower' AND pronargs = 1)",
        ),
        (
            "SELECT p.oid FROM pg_proc p JOIN pg_type t ON t.oid = p.proargtypes[1]",
            "SELECT p.oid FROM pg_proc p JOIN pg_type t \
             ON t.oid = CAST(NULLIF(split_part(p.proargtypes, ' ', 2), '') AS INT)",
        ),
        ("SELECT x[1] FROM y", "SELECT x[1] FROM y"),
        (
            "SELECT name FROM pg_catalog.pg_timezone_names() LIMIT 1",
            "SELECT name FROM (SELECT * FROM pg_catalog.pg_timezone_names) AS pg_timezone_names LIMIT 1",
        ),
    ] {
        assert_eq!(rewritten(sql), expected, "{sql}");
    }
}
