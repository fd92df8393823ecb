use serde_json::json;

use super::*;

#[test]
fn a_status_is_reduced_to_what_views_are_made_of() {
    let whole = json!({
        "service": "serve", "id": "serve-1",
        "sources": {
            "clicks": {"topic": "c", "lag": 7, "dead_letters": 2, "dead_letter_samples": [{"payload": "private"}],
                       "disconnected": {"speed-1": "broker 192.0.2.1"}, "landed": {"version": 3}},
            "salaries": {"topic": "s", "lag": 1},
        },
        "publication": {"number": 4, "run_id": "r", "cuts": {"clicks": {"next": {}}, "salaries": {}},
                        "views": ["pages", "payroll"]},
        "runs": {"last": {"diff": {"payroll": {}}}},
        "services": {"speed": [{"address": "http://192.0.2.1:8081"}]},
        "speed": {"speed-1": {}},
    });
    let (views, sources) = (BTreeSet::from(["pages"]), BTreeSet::from(["clicks"]));
    assert_eq!(
        reduced(&whole, &views, &sources, false),
        json!({
            "service": "serve",
            "sources": {"clicks": {"topic": "c", "lag": 7, "dead_letters": 2}},
            "publication": {"number": 4, "run_id": "r", "cuts": {"clicks": {"next": {}}}, "views": ["pages"]},
        })
    );
    assert_eq!(reduced(&whole, &views, &sources, true)["runs"], whole["runs"]);
    let nothing = reduced(
        &json!({"service": "serve", "publication": null}),
        &views,
        &sources,
        false,
    );
    assert_eq!(nothing, json!({"service": "serve", "sources": {}, "publication": null}));
}
