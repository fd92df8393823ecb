use anabranch_model::{Coverage, CoverageMap};
use serde_json::Value;

/// An answer of `POST /v1/sql` or `GET …/rows`.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
    pub coverage: CoverageMap,
}

impl Answer {
    /// Reads the JSON format.
    ///
    /// # Panics
    /// When it is not as the API promises.
    #[track_caller]
    pub fn parse(body: &Value) -> Self {
        let array = |key: &str| {
            body[key]
                .as_array()
                .unwrap_or_else(|| panic!("no `{key}`: {body}"))
                .clone()
        };
        let column = |column: &Value| {
            assert!(column["type"].is_string(), "a column without a type: {column}");
            column["name"].as_str().expect("a column has a name").to_owned()
        };
        let answer = Self {
            columns: array("columns").iter().map(column).collect(),
            rows: array("rows")
                .iter()
                .map(|row| row.as_array().expect("a row is an array").clone())
                .collect(),
            coverage: serde_json::from_value(body["coverage"].clone()).expect("coverage has its fields"),
        };
        assert_eq!(
            body["row_count"].as_u64(),
            Some(answer.rows.len() as u64),
            "row_count is not the number of rows"
        );
        assert!(body["elapsed_ms"].is_number(), "no elapsed_ms");
        assert!(
            answer.rows.iter().all(|row| row.len() == answer.columns.len()),
            "rows and columns do not fit"
        );
        answer
    }

    /// The only row.
    #[track_caller]
    pub fn row(&self) -> &[Value] {
        assert_eq!(self.rows.len(), 1, "one row was expected: {:?}", self.rows);
        &self.rows[0]
    }

    /// The only row, all integers; null is 0.
    #[track_caller]
    pub fn integers(&self) -> Vec<i64> {
        self.row().iter().map(integer).collect()
    }

    /// Coverage of the only view.
    #[track_caller]
    pub fn covered(&self) -> &Coverage {
        assert_eq!(self.coverage.len(), 1, "one view was expected: {:?}", self.coverage);
        self.coverage.values().next().expect("there is one")
    }

    /// Events that the answer covers, for a log that begins at offset 0: the sum of what each partition is served through.
    #[track_caller]
    pub fn events_covered(&self) -> i64 {
        self.covered().served_through.values().sum()
    }
}

/// An integer of an answer; null is 0.
#[track_caller]
pub fn integer(value: &Value) -> i64 {
    match value {
        Value::Null => 0,
        value => value.as_i64().unwrap_or_else(|| panic!("{value} is no integer")),
    }
}
