use arrow::ipc::reader::StreamReader;
use serde_json::{Value, json};

use crate::support::{Event, World};

const SQL: &str =
    "SELECT page, hits, dearest, score, hour, [hits, 2] AS list, named_struct('a', page, 'b', hits) AS pair,
    CAST(NULL AS BIGINT) AS nothing, hits > 0 AS yes FROM hours ORDER BY page NULLS LAST";

async fn world() -> World {
    let world = World::start().await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    let at = 1_442_019_600_000_000;
    worker.consume(
        "clicks",
        0,
        &[
            Event {
                page: Some("say \"hi\", you"),
                at,
                price: Some(-5),
                score: Some(f64::NAN),
                ..Event::default()
            },
            Event {
                page: None,
                at,
                price: None,
                score: Some(f64::NEG_INFINITY),
                ..Event::default()
            },
        ],
    );
    world
}

async fn fetch(world: &World, accept: &str) -> (u16, reqwest::header::HeaderMap, Vec<u8>) {
    let request = world
        .http
        .post(format!("{}/v1/sql", world.base))
        .header("accept", accept);
    let response = request.json(&json!({"sql": SQL})).send().await.unwrap();
    (
        response.status().as_u16(),
        response.headers().clone(),
        response.bytes().await.unwrap().to_vec(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn json_spells_every_type_as_documented() {
    let world = world().await;
    let (status, headers, body) = fetch(&world, "text/html;q=0.9, application/json, */*;q=0.1").await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    assert_eq!(headers["content-type"], "application/json");
    let answer: Value = serde_json::from_slice(&body).unwrap();
    let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["columns", "rows", "row_count", "elapsed_ms", "coverage"]);
    let types: Vec<&str> = answer["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "TEXT",
            "BIGINT",
            "DECIMAL(10,2)",
            "DOUBLE",
            "TIMESTAMP",
            "BIGINT[]",
            "STRUCT<a TEXT, b BIGINT>",
            "BIGINT",
            "BOOLEAN"
        ]
    );
    assert_eq!(
        answer["rows"],
        json!([
            ["say \"hi\", you", 1, "-0.05", "NaN", "2015-09-12T01:00:00Z", [1, 2], {"a": "say \"hi\", you", "b": 1}, null, true],
            [null, 1, null, "-Infinity", "2015-09-12T01:00:00Z", [1, 2], {"a": null, "b": 1}, null, true],
        ])
    );
    assert!(answer["elapsed_ms"].as_f64().unwrap() > 0.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_ndjson_and_arrow_carry_the_same_rows_and_coverage_in_a_header() {
    let world = world().await;
    let (status, headers, body) = fetch(&world, "text/csv").await;
    assert_eq!(
        (status, headers["content-type"].to_str().unwrap()),
        (200, "text/csv; charset=utf-8; header=present")
    );
    let text = String::from_utf8(body).unwrap();
    assert_eq!(
        text,
        "page,hits,dearest,score,hour,list,pair,nothing,yes\r\n\
         \"say \"\"hi\"\", you\",1,-0.05,NaN,2015-09-12T01:00:00Z,\"[1,2]\",\"{\"\"a\"\":\"\"say \\\"\"hi\\\"\", you\"\",\"\"b\"\":1}\",,true\r\n\
         ,1,,-Infinity,2015-09-12T01:00:00Z,\"[1,2]\",\"{\"\"a\"\":null,\"\"b\"\":1}\",,true\r\n"
    );
    let coverage: Value = serde_json::from_str(headers["x-anabranch-coverage"].to_str().unwrap()).unwrap();
    assert_eq!(
        coverage["hours"]["served_through"],
        json!({"web-clicks/0": 2, "web-clicks/1": 0})
    );

    let (_, headers, body) = fetch(&world, "application/x-ndjson").await;
    assert_eq!(headers["content-type"], "application/x-ndjson");
    let lines: Vec<Value> = String::from_utf8(body)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["score"], "-Infinity");
    assert!(
        lines[1].as_object().unwrap().contains_key("nothing"),
        "nulls are spelled out"
    );

    let (_, headers, body) = fetch(&world, "application/vnd.apache.arrow.stream").await;
    assert!(headers.contains_key("x-anabranch-coverage"));
    let batches: Vec<_> = StreamReader::try_new(body.as_slice(), None)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    assert_eq!(batches[0].schema().field(0).name(), "page");

    let (status, _, body) = fetch(&world, "image/png").await;
    assert_eq!(status, 400);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert!(answer["error"]["hint"].as_str().unwrap().contains("text/csv"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_answers_keep_their_columns() {
    let world = world().await;
    let (_, answer) = world.sql("SELECT page, hits FROM pages WHERE page = 'nobody'").await;
    assert_eq!(answer["rows"], json!([]));
    assert_eq!(
        answer["columns"],
        json!([{"name": "page", "type": "TEXT"}, {"name": "hits", "type": "BIGINT"}])
    );
    let (_, answer) = world.sql("SELECT a.hits, b.hits FROM totals a, totals b").await;
    assert_eq!(answer["columns"][0]["name"], "hits");
    assert_eq!(answer["rows"], json!([[2, 2]]));
    world.stop().await;
}
