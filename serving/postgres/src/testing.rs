//! A query engine over one small table, and a server on it.

use std::net::SocketAddr;
use std::sync::Arc;

use anabranch_access::{Access, Failures, Principal};
use anabranch_front::{
    Cause, Demand, PUBLIC, Prepared, QueryEngine, QueryError, Relation, RelationKind, Running, SYSTEM,
};
use anabranch_model::CoverageMap;
use anabranch_runtime::Shutdown;
use arrow::array::{Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Options, PostgresServer};

/// Answers over `totals (channel, edits, added, at)`. A query that says `'never'` does not begin, one that says `'endless'`
/// does not end.
pub(crate) struct TestEngine {
    context: SessionContext,
    /// Cancelled when an endless answer is given up.
    pub(crate) dropped: CancellationToken,
}

impl TestEngine {
    pub(crate) fn new() -> Arc<Self> {
        let batch = RecordBatch::try_new(
            totals(),
            vec![
                Arc::new(StringArray::from(vec![Some("#en"), Some("#de"), None])),
                Arc::new(Int64Array::from(vec![7, 5, 1])),
                Arc::new(
                    Decimal128Array::from(vec![70, 50, 10])
                        .with_precision_and_scale(38, 0)
                        .unwrap(),
                ),
                Arc::new(TimestampMicrosecondArray::from(vec![0, 1, 2])),
            ],
        );
        let context = SessionContext::new();
        context.register_batch("totals", batch.unwrap()).unwrap();
        Arc::new(Self {
            context,
            dropped: CancellationToken::new(),
        })
    }
}

fn totals() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("channel", DataType::Utf8, true),
        Field::new("edits", DataType::Int64, true),
        Field::new("added", DataType::Decimal128(38, 0), true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]))
}

fn refused(error: datafusion::error::DataFusionError) -> QueryError {
    QueryError::new(Cause::Invalid, error.strip_backtrace())
}

#[async_trait]
impl QueryEngine for TestEngine {
    fn relations(&self, principal: &Principal) -> Vec<Relation> {
        let relation = |schema, name: &str, kind, columns| Relation {
            schema,
            name: name.to_owned(),
            columns,
            kind,
            definition: (kind == RelationKind::View).then(|| "SELECT 1".to_owned()),
        };
        let coverage = Arc::new(Schema::new(vec![Field::new("view", DataType::Utf8, false)]));
        let all = [
            relation(PUBLIC, "totals", RelationKind::View, totals()),
            relation(SYSTEM, "coverage", RelationKind::System, coverage),
        ];
        all.into_iter()
            .filter(|relation| principal.may_read(&relation.name))
            .collect()
    }

    async fn prepare(&self, sql: &str, _: &Principal) -> Result<Prepared, QueryError> {
        let plan = self.context.state().create_logical_plan(sql).await.map_err(refused)?;
        let types = plan.get_parameter_types().map_err(refused)?;
        let parameters = (1..=types.len()).map(|number| types[&format!("${number}")].clone());
        let schema = Arc::new(plan.schema().as_arrow().clone());
        Ok(Prepared::new(schema, parameters.collect(), plan))
    }

    async fn run(
        &self,
        prepared: &Prepared,
        values: Vec<ScalarValue>,
        _: &Demand,
        _: &Principal,
    ) -> Result<Running, QueryError> {
        let plan = prepared.plan::<LogicalPlan>().unwrap().clone();
        if plan.to_string().contains("never") {
            std::future::pending::<()>().await;
        }
        let endless = plan.to_string().contains("endless");
        let plan = plan
            .replace_params_with_values(&ParamValues::from(values))
            .map_err(refused)?;
        let frame = self.context.execute_logical_plan(plan).await.map_err(refused)?;
        let stream = frame.execute_stream().await.map_err(refused)?;
        let batches = stream.map_err(refused);
        let batches = match endless {
            false => batches.boxed(),
            true => {
                let guard = self.dropped.clone().drop_guard();
                let all: Vec<RecordBatch> = batches.try_collect().await?;
                // The guard goes with the answer.
                futures::stream::unfold((all, guard), |(all, guard)| async {
                    Some((Ok(all[0].clone()), (all, guard)))
                })
                .boxed()
            }
        };
        Ok(Running {
            schema: Arc::clone(&prepared.schema),
            batches,
            coverage: CoverageMap::new(),
        })
    }
}

/// Starts a server on a port of its own; it runs until the shutdown is cancelled.
pub(crate) async fn serve() -> (SocketAddr, Shutdown) {
    serve_engine(TestEngine::new()).await
}

/// The same over an engine that the test looks at.
pub(crate) async fn serve_engine(engine: Arc<TestEngine>) -> (SocketAddr, Shutdown) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let server = PostgresServer::start(Options {
        listener,
        engine,
        access: Access::open(),
        failures: Failures::new(60),
        tls: None,
        max_connections: 50,
        shutdown: shutdown.clone(),
    });
    tokio::spawn(server.unwrap().run());
    (address, shutdown)
}
