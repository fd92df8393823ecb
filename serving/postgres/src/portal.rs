//! Statements that were parsed, and portals: statements with values, which give their rows in portions.

use std::sync::Arc;

use anabranch_front::{Prepared, QueryError, Running};
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use datafusion::scalar::ScalarValue;
use futures::stream::BoxStream;

use crate::catalog::live::Live;
use crate::copy::Style;
use crate::cursor::Fetch;
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
    Query(Query),
    /// The rows of a query in a format of COPY.
    Copy(Query, Style),
    /// A portal by its name in SQL.
    Declare {
        name: String,
        cursor: Cursor,
        query: Arc<Statement>,
    },
    Fetch {
        fetch: Fetch,
        /// Those of the cursor.
        columns: Vec<Column>,
    },
    Command(Kind),
}

/// A query that can be run.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) prepared: Prepared,
    pub(crate) source: Source,
    /// The command's tag; to that of SELECT the number of rows is added.
    pub(crate) tag: &'static str,
    /// What the columns are called, where that is not what the planner calls them.
    pub(crate) names: Option<Vec<String>>,
}

impl Query {
    /// The columns of the result, all of them in one format.
    pub(crate) fn columns(&self, binary: bool) -> Vec<Column> {
        let schema = &self.prepared.schema;
        let names = self.names.as_ref().filter(|names| names.len() == schema.fields().len());
        let column = |(at, field): (usize, &Arc<arrow::datatypes::Field>)| Column {
            name: names.map_or_else(|| field.name().clone(), |names| names[at].clone()),
            kind: PgType::of(field),
            binary,
        };
        schema.fields().iter().enumerate().map(column).collect()
    }
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
            Work::Query(query) => Some(query.columns(false)),
            Work::Fetch { fetch, columns } => (!fetch.moves).then(|| columns.clone()),
            Work::Copy(..) | Work::Declare { .. } => None,
            Work::Command(Kind::Show(name)) if name == "all" => {
                Some(["name", "setting", "description"].map(text_column).to_vec())
            }
            Work::Command(Kind::Show(name)) => Some(vec![text_column(name)]),
            Work::Command(_) => None,
        }
    }
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
    /// What a cursor was declared to be; `None` for a portal of the protocol.
    pub(crate) cursor: Option<Cursor>,
}

/// A portal that SQL knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) binary: bool,
    /// Whether it outlives its transaction, if that is committed.
    pub(crate) holds: bool,
    /// Whether its transaction has been.
    pub(crate) kept: bool,
}

impl Portal {
    /// Whether it is there after the end of a transaction.
    pub(crate) fn outlives(&mut self, committed: bool) -> bool {
        match &mut self.cursor {
            Some(cursor) if cursor.holds => {
                cursor.kept |= committed;
                cursor.kept
            }
            _ => false,
        }
    }
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
    pub(crate) rows: Option<(RecordBatch, Rows)>,
    /// The session as the query sees it, of one over the catalog.
    pub(crate) live: Option<Live>,
}

impl OpenRows {
    pub(crate) fn new(running: Running, live: Option<Live>) -> Self {
        Self {
            batches: running.batches,
            rows: None,
            live,
        }
    }

    /// Goes on in the formats of these columns: each FETCH may ask for others.
    ///
    /// # Errors
    /// As [`Rows::new`].
    pub(crate) fn in_formats(&mut self, columns: &[Column]) -> Result<(), ArrowError> {
        if let Some((batch, rows)) = &mut self.rows {
            rows.reformat(batch, columns)?;
        }
        Ok(())
    }
}
