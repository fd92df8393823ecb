use std::collections::BTreeMap;

use super::*;

const TOPIC: &str = "t";

fn oracle() -> Oracle {
    let part = |event: &Value| {
        Some(Part {
            key: vec![event["k"].clone()],
            amount: event["n"].as_i64()?,
            member: event["m"].as_str()?.to_owned(),
        })
    };
    let measures = vec![
        Measure::Count,
        Measure::Sum,
        Measure::Min,
        Measure::Max,
        Measure::Distinct,
    ];
    let question = Question {
        view: "v".into(),
        topic: TOPIC.into(),
        sql: "SELECT".into(),
        keys: 1,
        measures,
        part,
    };
    let mut oracle = Oracle::new(vec![question]);
    let events = [
        ("t/0", 0, r#"{"k": "a", "n": 5, "m": "x"}"#),
        ("t/0", 1, "not JSON"),
        ("t/0", 3, r#"{"k": "a", "n": -2, "m": "y"}"#),
        ("t/1", 0, r#"{"k": "b", "n": 7, "m": "x"}"#),
        ("t/1", 1, r#"{"k": "a", "n": 9, "m": "x"}"#),
    ];
    for (partition, offset, payload) in events {
        oracle.add(TOPIC, partition, offset, payload.as_bytes());
    }
    oracle
}

fn through(offsets: [i64; 2]) -> TopicOffsets {
    TopicOffsets::from([("t/0".to_owned(), offsets[0]), ("t/1".to_owned(), offsets[1])])
}

fn answer(coverage: Coverage, rows: Vec<Vec<Value>>) -> Answer {
    Answer {
        columns: Vec::new(),
        rows,
        coverage: BTreeMap::from([("v".to_owned(), coverage)]),
    }
}

#[test]
fn every_prefix_has_its_rows() {
    let oracle = oracle();
    let rows = |offsets| oracle.rows(0, &through(offsets));
    assert_eq!(
        rows([1, 0]),
        [[json!("a"), json!(1), json!(5), json!(5), json!(5), json!(1)]]
    );
    // The gap at offsets 1 and 2 changes nothing.
    assert_eq!(rows([3, 0]), rows([1, 0]));
    assert_eq!(
        rows([4, 2]),
        [
            [json!("a"), json!(3), json!(12), json!(-2), json!(9), json!(2)],
            [json!("b"), json!(1), json!(7), json!(7), json!(7), json!(1)],
        ]
    );
    assert_eq!(oracle.through(), &through([4, 2]));
}

#[test]
fn an_answer_that_is_not_its_prefix_is_a_contradiction() {
    let oracle = oracle();
    let exact = |offsets| Coverage {
        served_through: through(offsets),
        exact: true,
        ..Coverage::default()
    };
    let right = oracle.rows(0, &through([4, 1]));
    assert_eq!(oracle.contradiction(0, &answer(exact([4, 1]), right.clone())), None);
    for (coverage, why) in [
        (exact([4, 2]), "first row that differs"),
        (exact([5, 1]), "the log holds it up to 4"),
        (
            Coverage {
                exact: false,
                ..exact([4, 1])
            },
            "does not say what is missing",
        ),
        (
            Coverage {
                missing: vec!["t/0".into()],
                ..exact([4, 1])
            },
            "names what is missing",
        ),
        (
            Coverage {
                batch_cut: through([4, 2]),
                ..exact([4, 1])
            },
            "short of its own cut",
        ),
    ] {
        let said = oracle.contradiction(0, &answer(coverage, right.clone())).expect(why);
        assert!(said.contains(why), "{said}");
    }
}
