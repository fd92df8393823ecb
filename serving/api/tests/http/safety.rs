//! What a query must not reach: files, the network, settings, and other processes' data.

use serde_json::json;

use crate::support::World;

/// A file with something in it that no answer may show.
const MARK: &str = "only-in-the-file-8f1c";

#[tokio::test(flavor = "multi_thread")]
async fn a_query_reaches_no_file_no_network_and_no_setting() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("private.csv");
    std::fs::write(&file, format!("word\n{MARK}\n")).unwrap();
    let path = file.display();
    let out = folder.path().join("out");
    let written = out.display();
    let refused = [
        format!("SELECT * FROM '{path}'"),
        format!("SELECT * FROM \"{path}\""),
        format!("SELECT * FROM 'file://{path}'"),
        "SELECT * FROM 'http://127.0.0.1:1/x.csv'".to_owned(),
        "SELECT * FROM 's3://bucket/x.parquet'".to_owned(),
        format!("SELECT * FROM read_csv('{path}')"),
        format!("SELECT * FROM read_parquet('{path}')"),
        format!("SELECT * FROM read_json('{path}')"),
        format!("SELECT * FROM parquet_metadata('{path}')"),
        "SELECT * FROM metadata_cache()".to_owned(),
        "SELECT * FROM statistics_cache()".to_owned(),
        format!("SELECT pg_read_file('{path}')"),
        format!("SELECT load_extension('{path}')"),
        format!("SELECT * FROM glob('{path}')"),
        "SELECT getenv('HOME')".to_owned(),
        format!("COPY (SELECT 1) TO '{written}' STORED AS CSV"),
        format!("COPY pages TO '{written}'"),
        format!("COPY pages FROM '{path}'"),
        format!("CREATE EXTERNAL TABLE x (word TEXT) STORED AS CSV LOCATION '{path}'"),
        "CREATE TABLE x AS SELECT 1".to_owned(),
        "CREATE VIEW x AS SELECT 1".to_owned(),
        "CREATE SCHEMA x".to_owned(),
        "CREATE DATABASE x".to_owned(),
        "CREATE FUNCTION f(DOUBLE) RETURNS DOUBLE RETURN $1".to_owned(),
        "INSERT INTO pages VALUES ('x', 1, 1)".to_owned(),
        "UPDATE pages SET hits = 0".to_owned(),
        "DELETE FROM pages".to_owned(),
        "TRUNCATE TABLE pages".to_owned(),
        "DROP TABLE pages".to_owned(),
        "DROP VIEW pages".to_owned(),
        "ALTER TABLE pages ADD COLUMN x INT".to_owned(),
        "SELECT * INTO x FROM pages".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "SET datafusion.runtime.memory_limit = '1000G'".to_owned(),
        "RESET datafusion.execution.batch_size".to_owned(),
        "SHOW ALL".to_owned(),
        "SHOW TABLES".to_owned(),
        "SELECT * FROM information_schema.df_settings".to_owned(),
        "SELECT * FROM information_schema.tables".to_owned(),
        "SELECT * FROM datafusion.public.pages".to_owned(),
        "PREPARE p AS SELECT 1".to_owned(),
        "EXECUTE p".to_owned(),
        "BEGIN".to_owned(),
        "SELECT 1; SELECT 2".to_owned(),
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/x'".to_owned(),
        format!("WITH x AS (SELECT * FROM '{path}') SELECT * FROM x"),
        format!("SELECT (SELECT word FROM '{path}')"),
        format!("SELECT * FROM pages WHERE page IN (SELECT word FROM '{path}')"),
        format!("SELECT * FROM pages UNION ALL SELECT word, 1, 1 FROM '{path}'"),
    ];
    for sql in refused {
        let (status, answer) = world.sql(&sql).await;
        let told = answer.to_string();
        assert!((400..500).contains(&status), "{sql} answered {status}: {told}");
        assert!(!told.contains(MARK), "{sql} told {told}");
        assert!(
            !told.contains("No such file") && !told.contains("os error"),
            "{sql} told {told}"
        );
    }
    assert!(!out.exists(), "a query wrote a file");
    assert_eq!(
        world.query("SELECT 1 + 1 AS two").await,
        json!([[2]]),
        "it goes on answering"
    );
    world.stop().await;
}
