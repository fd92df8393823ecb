//! Statements that were parsed, and portals: statements with values, which give their rows in portions.

use std::sync::Arc;

use anabranch_front::{Prepared, QueryError, Running};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use datafusion::scalar::ScalarValue;
use futures::stream::BoxStream;

use crate::encode::Rows;
use crate::params::Parameter;
use crate::script::Kind;
use crate::types::{PgType, TEXT};
use crate::wire::Column;

/// A statement that can be run.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) work: Work,
    pub(crate) parameters: Vec<Parameter>,
}

/// What running a statement means.
#[derive(Debug)]
pub(crate) enum Work {
    Query {
        prepared: Prepared,
        source: Source,
        /// The command's tag, to which the number of rows is added.
        tag: &'static str,
    },
    Command(Kind),
}

/// Who answers a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Engine,
    Catalog,
}

impl Statement {
    /// The columns of the result, in the text format; `None` when there is no result.
    pub(crate) fn columns(&self) -> Option<Vec<Column>> {
        match &self.work {
            Work::Query { prepared, .. } => Some(columns_of(&prepared.schema)),
            Work::Command(Kind::Show(name)) if name == "all" => {
                Some(["name", "setting", "description"].map(text_column).to_vec())
            }
            Work::Command(Kind::Show(name)) => Some(vec![text_column(name)]),
            Work::Command(_) => None,
        }
    }
}

fn columns_of(schema: &Schema) -> Vec<Column> {
    let column = |field: &Arc<arrow::datatypes::Field>| Column {
        name: field.name().clone(),
        kind: PgType::of(field),
        binary: false,
    };
    schema.fields().iter().map(column).collect()
}

fn text_column(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        kind: PgType::plain(TEXT),
        binary: false,
    }
}

/// A statement with values for its parameters.
pub(crate) struct Portal {
    pub(crate) statement: Arc<Statement>,
    pub(crate) values: Vec<ScalarValue>,
    pub(crate) columns: Vec<Column>,
    pub(crate) state: State,
}

/// How far a portal has come.
pub(crate) enum State {
    Bound,
    Open(OpenRows),
    Done,
}

/// Rows of a query that runs.
pub(crate) struct OpenRows {
    pub(crate) batches: BoxStream<'static, Result<RecordBatch, QueryError>>,
    /// What is left of the batch that was read last.
    pub(crate) rows: Option<Rows>,
}

impl OpenRows {
    pub(crate) fn new(running: Running) -> Self {
        Self {
            batches: running.batches,
            rows: None,
        }
    }
}
