//! The worked cases of `examples.json`.

use std::path::Path;

use serde_json::Value;

/// One case.
#[derive(Clone, Debug)]
pub struct Case(Value);

/// All cases, in file order.
///
/// # Panics
/// When the file is not as its README says.
pub fn load(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).expect("the examples can be read");
    let file: Value = serde_json::from_str(&text).expect("the examples are JSON");
    file["cases"]
        .as_array()
        .expect("there are cases")
        .iter()
        .cloned()
        .map(Case)
        .collect()
}

/// The case of this id.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn find<'c>(cases: &'c [Case], id: &str) -> &'c Case {
    cases
        .iter()
        .find(|case| case.id() == id)
        .unwrap_or_else(|| panic!("examples.json has no case `{id}`"))
}

impl Case {
    pub fn id(&self) -> &str {
        self.0["id"].as_str().expect("a case has an id")
    }

    /// What is asked, or shown.
    pub fn question(&self) -> &str {
        self.0["question"].as_str().unwrap_or("a window trace")
    }

    /// The events of an inline case, one array of values each.
    pub fn events(&self) -> Vec<Vec<Value>> {
        self.0["events"]
            .as_array()
            .expect("an inline case has events")
            .iter()
            .map(array)
            .collect()
    }

    /// The rows under `key` (`expected`, `expected_speed`, `expected_batch`), their values in the order of `columns`.
    ///
    /// # Panics
    /// When there are none, or they lack a column.
    #[track_caller]
    pub fn rows(&self, key: &str, columns: &[&str]) -> Vec<Vec<Value>> {
        let expected = &self.0[key];
        let rows = expected["rows"]
            .as_array()
            .unwrap_or_else(|| panic!("{} has no `{key}`", self.id()));
        let names: Vec<&str> = expected["columns"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let value = |row: &Value, column: &str| match row {
            Value::Array(values) => {
                let at = names.iter().position(|name| *name == column);
                values[at.unwrap_or_else(|| panic!("{} has no column `{column}`", self.id()))].clone()
            }
            row => row
                .get(column)
                .unwrap_or_else(|| panic!("{} has no column `{column}`", self.id()))
                .clone(),
        };
        rows.iter()
            .map(|row| columns.iter().map(|column| value(row, column)).collect())
            .collect()
    }
}

fn array(value: &Value) -> Vec<Value> {
    value.as_array().expect("an event is an array").clone()
}
