use serde_json::json;

use super::*;

fn reports(workers: &[(&str, Value)]) -> Reports {
    Reports {
        speed: workers
            .iter()
            .map(|(id, report)| ((*id).to_owned(), Ok(report.clone())))
            .chain([("lost".to_owned(), Err("it does not answer".to_owned()))])
            .collect(),
        batch: BTreeMap::new(),
        masters: BTreeMap::new(),
    }
}

#[test]
fn a_worker_that_its_log_does_not_answer_shows_in_the_status() {
    let well = json!({"sources": {"clicks": {"log": {"connected": true}}}});
    let away = json!({"sources": {"clicks": {"log": {"connected": false, "error": "no broker"}}}});
    let waiting = json!({"sources": {}, "waiting": {"clicks": {"since": "then", "error": "nobody there"}}});
    let early = json!({"sources": {"clicks": {"log": null}}});

    let all_well = reports(&[("a", well.clone()), ("b", early.clone())]);
    assert_eq!(connected("clicks", &all_well), Some(true));
    assert_eq!(disconnected("clicks", &all_well), BTreeMap::new());
    assert_eq!(connected("clicks", &reports(&[("a", early)])), None, "nobody knows yet");
    assert_eq!(connected("orders", &all_well), None, "nobody reads it");

    let two_cut_off = reports(&[("a", well), ("b", away), ("c", waiting)]);
    assert_eq!(connected("clicks", &two_cut_off), Some(false));
    assert_eq!(
        disconnected("clicks", &two_cut_off),
        BTreeMap::from([("b", &json!("no broker")), ("c", &json!("nobody there"))])
    );
}
