use arrow::array::{AsArray, RecordBatch};
use arrow::util::display::array_value_to_string;
use futures::TryStreamExt;

use super::*;
use crate::script::{Kind, split};
use crate::testing::TestEngine;

fn catalog() -> Catalog {
    Catalog::new(TestEngine::new()).unwrap()
}

fn concerns(catalog: &Catalog, sql: &str) -> Option<Concern> {
    match catalog
        .read(sql)
        .unwrap_or_else(|error| panic!("{error:?}: {sql}"))
        .asked
    {
        Asked::Catalog(concern) => Some(*concern),
        Asked::Engine(_) => None,
    }
}

fn live() -> Live {
    Live::new(
        crate::session::Session::new(Principal::anonymous_admin(), "me"),
        Vec::new(),
    )
}

async fn batches(catalog: &Catalog, sql: &str) -> Vec<RecordBatch> {
    let statement = concerns(catalog, sql).unwrap_or_else(|| panic!("not for the catalog: {sql}"));
    let principal = Principal::anonymous_admin();
    let prepared = catalog.prepare(statement, &principal).await;
    let prepared = prepared.unwrap_or_else(|error| panic!("{error}: {sql}"));
    let running = catalog.run(&prepared, Vec::new(), live()).await;
    let running = running.unwrap_or_else(|error| panic!("{error}: {sql}"));
    let batches = running.batches.try_collect().await;
    batches.unwrap_or_else(|error| panic!("{error}: {sql}"))
}

async fn rows(catalog: &Catalog, sql: &str) -> Vec<Vec<String>> {
    spelled(batches(catalog, sql).await)
}

fn spelled(batches: Vec<RecordBatch>) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch
                .columns()
                .iter()
                .map(|column| array_value_to_string(column, row).unwrap());
            rows.push(cells.collect());
        }
    }
    rows
}

/// The queries of a file, and what each answers.
async fn answers(file: &str) -> Vec<Vec<Vec<String>>> {
    let catalog = catalog();
    let pieces = split(file)
        .unwrap()
        .into_iter()
        .filter(|piece| piece.kind == Kind::Query);
    let (mut answers, mut failed) = (Vec::new(), Vec::new());
    for piece in pieces {
        match answer(&catalog, piece.text).await {
            Ok(batches) => answers.push(spelled(batches)),
            Err(error) => failed.push(format!("{error}:\n{}", piece.text)),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    answers
}

async fn answer(catalog: &Catalog, sql: &str) -> Result<Vec<RecordBatch>, String> {
    let concern = concerns(catalog, sql).ok_or("it is not for the catalog")?;
    let prepared = catalog.prepare(concern, &Principal::anonymous_admin()).await;
    let prepared = prepared.map_err(|error| error.to_string())?;
    let running = catalog
        .run(&prepared, Vec::new(), live())
        .await
        .map_err(|error| error.to_string())?;
    running.batches.try_collect().await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn another_one_of_the_same_name_sees_their_own_views() {
    let catalog = catalog();
    let sql = "SELECT relname FROM pg_class WHERE relname = 'totals'";
    for (views, expected) in [
        (ViewPatterns::all(), 1),
        (ViewPatterns::new(["others"]), 0),
        (ViewPatterns::new(["tot*"]), 1),
    ] {
        let principal = Principal::new("ann", Role::Read, views);
        let prepared = catalog
            .prepare(concerns(&catalog, sql).unwrap(), &principal)
            .await
            .unwrap();
        let batches: Vec<RecordBatch> = {
            let running = catalog.run(&prepared, Vec::new(), live()).await.unwrap();
            running.batches.try_collect().await.unwrap()
        };
        assert_eq!(spelled(batches).len(), expected, "{}", principal.views);
    }
}

#[tokio::test]
async fn grafana_finds_what_there_is() {
    let answers = answers(include_str!("clients/grafana.sql")).await;
    assert_eq!(answers[0], [["1600"]]);
    assert_eq!(answers[2], [["anabranch"], ["public"]]);
    assert_eq!(answers[3], [["totals"]]);
    assert_eq!(answers[4], [["totals"], ["anabranch.coverage"]]);
    assert_eq!(answers[5][3], ["at", "timestamp with time zone"]);
    assert_eq!(answers[6], [["edits"]]);
}

#[tokio::test]
async fn metabase_finds_what_there_is() {
    let answers = answers(include_str!("clients/metabase.sql")).await;
    assert_eq!(answers[1][0][..3], ["public", "totals", "VIEW"]);
    let columns: Vec<_> = answers[2]
        .iter()
        .map(|column| [&*column[0], &*column[1], &*column[2]])
        .collect();
    assert_eq!(
        columns,
        [
            ["channel", "text", "0"],
            ["edits", "int8", "1"],
            ["added", "numeric", "2"],
            ["at", "timestamptz", "3"]
        ]
    );
    assert!(
        answers[3].is_empty() && answers[4].is_empty(),
        "there are no keys and no indexes"
    );
}

#[tokio::test]
async fn sqlalchemy_reflects_what_there_is() {
    let answers = answers(include_str!("clients/sqlalchemy.sql")).await;
    let columns: Vec<_> = answers[0].iter().map(|column| [&*column[0], &*column[1]]).collect();
    assert_eq!(columns[1..3], [["edits", "bigint"], ["added", "numeric"]]);
    assert!(
        answers[0].iter().all(|column| column[7].is_empty()),
        "no column has options"
    );
}

#[tokio::test]
async fn jdbc_asks_for_types_tables_and_keys() {
    let answers = answers(include_str!("clients/jdbc.sql")).await;
    assert!(answers[0].iter().any(|known| known[0] == "timestamptz"));
    assert_eq!(answers[3][0][1..4], ["public", "totals", "VIEW"]);
    assert!(answers[4].is_empty() && answers[5].is_empty());
}

#[tokio::test]
async fn the_definition_of_a_view_is_told() {
    let catalog = catalog();
    let sql = "SELECT relname, pg_catalog.pg_get_viewdef(c.oid, true) FROM pg_class c WHERE relname IN ('totals', 'coverage') \
         ORDER BY relname";
    assert_eq!(rows(&catalog, sql).await, [["coverage", ""], ["totals", "SELECT 1"]]);
}

#[test]
fn only_what_concerns_the_catalog_is_taken() {
    let catalog = catalog();
    for sql in [
        "SELECT 1",
        "SELECT version()",
        "SELECT current_schema()",
        "SELECT * FROM pg_class",
        "SELECT n.nspname FROM pg_catalog.pg_namespace n",
        "SELECT * FROM information_schema.tables",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "SELECT * FROM generate_series(1, 3)",
    ] {
        assert!(concerns(&catalog, sql).is_some(), "{sql}");
    }
    for sql in [
        "SELECT * FROM totals",
        "SELECT * FROM public.totals WHERE channel = 'pg_class'",
        "SELECT * FROM anabranch.coverage",
        "WITH x AS (SELECT * FROM totals) SELECT * FROM x",
        "nonsense",
    ] {
        assert!(concerns(&catalog, sql).is_none(), "{sql}");
    }
}

/// What psql 15 sends for `\d`, `\dt`, `\dv`, `\dn`, `\l`, `\d totals` and tab completion.
#[tokio::test]
async fn psql_finds_what_there_is() {
    let catalog = catalog();
    let listed = rows(
        &catalog,
        r#"SELECT n.nspname as "Schema", c.relname as "Name",
             CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' END as "Type",
             pg_catalog.pg_get_userbyid(c.relowner) as "Owner"
           FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
           WHERE c.relkind IN ('r','p','v','m','S','f','')
             AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema'
             AND pg_catalog.pg_table_is_visible(c.oid)
           ORDER BY 1,2;"#,
    )
    .await;
    assert_eq!(
        listed,
        [
            ["anabranch", "coverage", "table", "anonymous"],
            ["public", "totals", "view", "anonymous"]
        ]
    );
    let oid = &rows(
        &catalog,
        "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c
              LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relname OPERATOR(pg_catalog.~) '^(totals)$' COLLATE pg_catalog.default
           AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3;",
    )
    .await[0][0];
    let about = format!(
        "SELECT c.relchecks, c.relkind, c.relhasindex, c.relhasrules, c.relhastriggers, c.relrowsecurity,
           c.relforcerowsecurity, false AS relhasoids, c.relispartition, '', c.reltablespace,
           CASE WHEN c.reloftype = 0 THEN '' ELSE c.reloftype::pg_catalog.regtype::pg_catalog.text END,
           c.relpersistence, c.relreplident, am.amname
         FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid)
              LEFT JOIN pg_catalog.pg_am am ON (c.relam = am.oid)
         WHERE c.oid = '{oid}';"
    );
    assert_eq!(rows(&catalog, &about).await[0][1], "v");
    let columns = format!(
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
           (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d
            WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef),
           a.attnotnull,
           (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t
            WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation,
           a.attidentity, a.attgenerated
         FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = '{oid}' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;"
    );
    let columns = rows(&catalog, &columns).await;
    let named: Vec<_> = columns
        .iter()
        .map(|column| (column[0].as_str(), column[1].as_str()))
        .collect();
    assert_eq!(
        named,
        [
            ("channel", "text"),
            ("edits", "bigint"),
            ("added", "numeric"),
            ("at", "timestamp with time zone")
        ]
    );
    let completed = rows(
        &catalog,
        "SELECT c.relname, NULL::pg_catalog.text FROM pg_catalog.pg_class c
         WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND (c.relname) LIKE 'tot%'
           AND pg_catalog.pg_table_is_visible(c.oid)
           AND c.relnamespace <> (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pg_catalog')
         UNION ALL
         SELECT NULL::pg_catalog.text, n.nspname FROM pg_catalog.pg_namespace n
         WHERE n.nspname LIKE 'tot%' AND n.nspname NOT LIKE E'pg\\_%'
         LIMIT 1000",
    )
    .await;
    assert_eq!(completed[0][0], "totals");
    let databases = rows(
        &catalog,
        "SELECT d.datname, pg_catalog.pg_encoding_to_char(d.encoding) FROM pg_catalog.pg_database d ORDER BY 1",
    )
    .await;
    assert_eq!(databases.len(), 1, "there is one database");
    assert_eq!(databases[0][0], "anabranch");
}

/// `DatabaseMetaData` of pgjdbc 42.7: tables, columns, and keys that no view has.
#[tokio::test]
async fn jdbc_finds_what_there_is() {
    let catalog = catalog();
    let columns = rows(
        &catalog,
        "SELECT * FROM (SELECT current_database() AS current_database, n.nspname,c.relname,a.attname,a.atttypid,
           a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS attnotnull,a.atttypmod,a.attlen,t.typtypmod,
           row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS attnum, nullif(a.attidentity, '') as attidentity,
           nullif(a.attgenerated, '') as attgenerated,
           pg_catalog.pg_get_expr(def.adbin, def.adrelid) AS adsrc,dsc.description,t.typbasetype,t.typtype
         FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON (c.relnamespace = n.oid)
           JOIN pg_catalog.pg_attribute a ON (a.attrelid=c.oid) JOIN pg_catalog.pg_type t ON (a.atttypid = t.oid)
           LEFT JOIN pg_catalog.pg_attrdef def ON (a.attrelid=def.adrelid AND a.attnum = def.adnum)
           LEFT JOIN pg_catalog.pg_description dsc ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid)
           LEFT JOIN pg_catalog.pg_class dc ON (dc.oid=dsc.classoid AND dc.relname='pg_class')
           LEFT JOIN pg_catalog.pg_namespace dn ON (dc.relnamespace=dn.oid AND dn.nspname='pg_catalog')
         WHERE c.relkind in ('r','p','v','f','m') and a.attnum > 0 AND NOT a.attisdropped AND c.relname LIKE 'totals') c
         WHERE true ORDER BY nspname,c.relname,attnum",
    )
    .await;
    let names: Vec<&str> = columns.iter().map(|column| column[3].as_str()).collect();
    assert_eq!(names, ["channel", "edits", "added", "at"]);
    let keys = rows(
        &catalog,
        "SELECT result.TABLE_CAT, result.TABLE_SCHEM, result.TABLE_NAME, result.COLUMN_NAME, result.KEY_SEQ, result.PK_NAME
         FROM (SELECT current_database() AS TABLE_CAT, n.nspname AS TABLE_SCHEM, ct.relname AS TABLE_NAME,
             a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, ci.relname AS PK_NAME,
             information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM
           FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid)
             JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid)
             JOIN pg_catalog.pg_index i ON ( a.attrelid = i.indrelid)
             JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid)
           WHERE true AND ct.relname = 'totals' AND i.indisprimary ) result
         where result.A_ATTNUM = (result.KEYS).x ORDER BY result.table_name, result.pk_name, result.key_seq",
    )
    .await;
    assert!(keys.is_empty());
}

#[tokio::test]
async fn information_schema_names_types_as_postgresql_does() {
    let catalog = catalog();
    let columns = rows(
        &catalog,
        "SELECT column_name, data_type, udt_name, numeric_precision, ordinal_position FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name = 'totals' ORDER BY ordinal_position",
    )
    .await;
    assert_eq!(
        columns,
        [
            ["channel", "text", "text", "", "1"],
            ["edits", "bigint", "int8", "64", "2"],
            ["added", "numeric", "numeric", "38", "3"],
            ["at", "timestamp with time zone", "timestamptz", "", "4"],
        ]
    );
    let views = rows(
        &catalog,
        "SELECT table_name, view_definition FROM information_schema.views",
    )
    .await;
    assert_eq!(views, [["totals", "SELECT 1"]]);
    let none = rows(&catalog, "SELECT * FROM information_schema.table_constraints").await;
    assert!(none.is_empty());
}

#[tokio::test]
async fn sessions_are_asked_what_they_are() {
    let catalog = catalog();
    let one = batches(
        &catalog,
        "SELECT version(), current_schema(), current_database(), current_user",
    )
    .await;
    let cell = |column: usize| one[0].column(column).as_string::<i32>().value(0).to_owned();
    assert!(cell(0).starts_with("PostgreSQL 16.6 (Anabranch"), "{}", cell(0));
    assert_eq!(
        (cell(1).as_str(), cell(2).as_str(), cell(3).as_str()),
        ("public", "anabranch", "anonymous")
    );
    assert_eq!(
        rows(&catalog, "SELECT current_setting('server_version_num')").await,
        [["160006"]]
    );
    assert_eq!(
        rows(
            &catalog,
            "SELECT setting FROM pg_settings WHERE name = 'max_index_keys'"
        )
        .await,
        [["32"]]
    );
}

#[tokio::test]
async fn views_and_the_catalog_are_not_read_together() {
    let catalog = catalog();
    let statement = concerns(&catalog, "SELECT * FROM totals, pg_class").unwrap();
    let prepared = catalog.prepare(statement, &Principal::anonymous_admin()).await.unwrap();
    let error = catalog.run(&prepared, Vec::new(), live()).await.unwrap_err();
    assert_eq!(error.cause, Cause::Unsupported);
}

#[tokio::test]
async fn parameters_have_the_types_that_comparisons_or_casts_tell() {
    let catalog = catalog();
    let types = async |sql: &str| {
        let statement = concerns(&catalog, sql).unwrap();
        let prepared = catalog.prepare(statement, &Principal::anonymous_admin()).await.unwrap();
        prepared.parameters.to_vec()
    };
    assert_eq!(
        types("SELECT oid FROM pg_class WHERE relname = $1").await,
        [Some(DataType::Utf8)]
    );
    assert_eq!(
        types("SELECT $2::bigint, $1::text").await,
        [Some(DataType::Utf8), Some(DataType::Int64)]
    );
    assert_eq!(
        types("SELECT oid FROM pg_class WHERE relname = ANY($1)").await,
        [Some(DataType::new_list(DataType::Utf8, true))]
    );
    assert_eq!(
        types("SELECT (SELECT adbin FROM pg_attrdef WHERE adnum = $1 LIMIT $2) FROM pg_class WHERE relname = $3").await,
        [None, None, Some(DataType::Utf8)],
        "parameters of what is left out are there all the same"
    );
}

#[test]
fn deep_expressions_are_refused_or_left_to_the_engine() {
    let catalog = catalog();
    let sum = |count: usize| vec!["1"; count].join(" + ");
    let deep = catalog.read(&format!("SELECT {}", sum(1_000))).unwrap_err();
    assert_eq!(deep.code, "54001");
    for count in [1_000, 4_000, 100_000] {
        let read = catalog.read(&format!("SELECT {} FROM totals", sum(count))).unwrap();
        assert!(matches!(read.asked, Asked::Engine(None)), "{count}");
    }
    let wide = format!(
        "SELECT oid FROM pg_class WHERE relname IN ({})",
        vec!["'x'"; 20_000].join(", ")
    );
    assert!(concerns(&catalog, &wide).is_some(), "a list is not deep");
}

/// What pgcli 4 asks to complete names.
#[tokio::test]
async fn pgcli_completes_names() {
    let answers = answers(include_str!("clients/pgcli.sql")).await;
    assert!(answers[0].iter().any(|schema| schema == &["public"]));
    assert!(answers[1].iter().any(|view| view == &["public", "totals"]));
    let column = answers[2]
        .iter()
        .find(|column| column[1] == "totals" && column[2] == "edits");
    assert_eq!(column.expect("the column is listed")[3], "bigint");
    assert!(answers[3].iter().any(|function| function[1] == "lower"));
    assert!(answers[4].is_empty(), "people have written no functions");
    assert_eq!(answers[5], [["anabranch"]]);
    assert!(answers[6].is_empty(), "nor types");
    assert_eq!(answers[7], [["true"]]);
}

/// What asyncpg 0.32 asks about the arrays of an answer.
#[tokio::test]
async fn asyncpg_learns_what_arrays_are_of() {
    let catalog = catalog();
    let asked = include_str!("clients/asyncpg.sql");
    assert_eq!(declared(asked, 1), 1028, "it has no codec for other arrays yet");
    let asked = asked.replace("$1", "ARRAY[1016, 1185]");
    let told = rows(&catalog, &asked).await;
    let told: Vec<_> = told
        .iter()
        .map(|row| [&*row[0], &*row[2], &*row[5], &*row[6], &*row[10]])
        .collect();
    assert_eq!(
        told,
        [
            ["20", "int8", "0", "", "1"],
            ["1184", "timestamptz", "0", "", "1"],
            ["1016", "_int8", "20", ",", "0"],
            ["1185", "_timestamptz", "1184", ",", "0"]
        ]
    );
}
