use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::Principal;
use anabranch_model::{CoverageMap, TopicOffsets};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::scalar::ScalarValue;
use futures::stream::BoxStream;

use crate::QueryError;

/// What answers queries.
#[async_trait]
pub trait QueryEngine: Send + Sync + 'static {
    /// The relations that `principal` may read: merged views, then system tables, each kind by name.
    fn relations(&self, principal: &Principal) -> Vec<Relation>;

    /// Plans a query without reading anything.
    ///
    /// # Errors
    /// For anything but one query over relations that `principal` may read.
    async fn prepare(&self, sql: &str, principal: &Principal) -> Result<Prepared, QueryError>;

    /// Starts a query that this engine has prepared; `parameters` stand for `$1`, `$2` and so on. Waits for a turn when too
    /// many are running, and as long as `demand` allows for an answer that meets it.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare), whatever keeps the demand from being met, and [`Cause::Changed`](crate::Cause::Changed)
    /// when the columns are no longer those that were prepared.
    async fn run(
        &self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
        demand: &Demand,
        principal: &Principal,
    ) -> Result<Running, QueryError>;
}

/// Something that a query can name after FROM.
#[derive(Clone, Debug)]
pub struct Relation {
    pub schema: &'static str,
    pub name: String,
    pub columns: SchemaRef,
    pub kind: RelationKind,
    /// The query of a view, as it was written.
    pub definition: Option<String>,
}

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// A merged view.
    View,
    /// A system table.
    System,
}

/// What an answer must cover beside being consistent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Nothing may be missing.
    pub exact: bool,
    /// `topic/partition` → next offset that the answer must reach.
    pub at_least: TopicOffsets,
    /// How long to wait for the two above.
    pub patience: Duration,
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            exact: false,
            at_least: TopicOffsets::default(),
            patience: Duration::from_secs(5),
        }
    }
}

/// A query that was planned. Cheap to clone.
#[derive(Clone)]
pub struct Prepared {
    /// Columns of the answer.
    pub schema: SchemaRef,
    /// Types of `$1`, `$2` and so on, as far as the query tells.
    pub parameters: Arc<[Option<DataType>]>,
    plan: Arc<dyn Any + Send + Sync>,
}

impl Prepared {
    /// `plan` is what the engine that prepared it wants back when it is run.
    pub fn new(schema: SchemaRef, parameters: Vec<Option<DataType>>, plan: impl Any + Send + Sync) -> Self {
        Self {
            schema,
            parameters: parameters.into(),
            plan: Arc::new(plan),
        }
    }

    /// What was given to [`new`](Self::new), if it was a `T`.
    pub fn plan<T: Any>(&self) -> Option<&T> {
        self.plan.downcast_ref()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("schema", &self.schema)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

/// A query that runs. Dropping it stops it.
pub struct Running {
    pub schema: SchemaRef,
    pub batches: BoxStream<'static, Result<RecordBatch, QueryError>>,
    /// What the answer covers, per view.
    pub coverage: CoverageMap,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}
