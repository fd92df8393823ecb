use std::collections::HashMap;
use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_catalog::nearest;
use anabranch_model::CoverageMap;
use anabranch_view::View;
use arrow::datatypes::SchemaRef;
use datafusion::common::{ScalarValue, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement;
use futures::FutureExt;

use super::check;
use super::cooperate::cooperative;
use super::prepared::{Planned, Prepared, columns, parameters};
use super::provider::FrozenState;
use super::running::{Piped, Rows, Running};
use super::session::{Scope, template};
use super::states::{Lent, States};
use super::system::System;
use crate::Error;
use crate::admission::{self, Admission, Ticket};
use crate::compute::Compute;
use crate::format::Answer;
use crate::snapshot::consistency::{Consistency, Demand, Frozen};

/// Below so many groups, one thread is faster than handing batches around.
const PARALLEL_ROWS: usize = 100_000;
/// How often a query is started anew when a speed worker disappears, or a view changes, while its state is read.
const ATTEMPTS: u32 = 4;
/// Batches that are computed ahead of their reader.
const AHEAD: usize = 2;

/// Answers SQL over merged views. Cheap to clone; clones share permits and memory.
#[derive(Clone)]
pub struct SqlEngine {
    inner: Arc<Inner>,
}

struct Inner {
    consistency: Arc<Consistency>,
    compute: Arc<Compute>,
    admission: Arc<Admission>,
    system: Arc<System>,
    states: States,
}

impl SqlEngine {
    pub(crate) fn new(
        consistency: Arc<Consistency>,
        compute: Arc<Compute>,
        admission: Arc<Admission>,
        system: Arc<System>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                consistency,
                compute,
                admission,
                system,
                states: States::new(&template(), std::thread::available_parallelism().map_or(1, usize::from)),
            }),
        }
    }

    /// Checks and plans a statement for whoever asks. Freezes nothing and reads nothing.
    ///
    /// # Errors
    /// `Sql` for anything but one SELECT over views, `UnknownView`, and what the planner refuses.
    pub async fn prepare(&self, sql: &str, principal: &Principal) -> Result<Prepared, Error> {
        let (engine, sql, principal) = (self.clone(), sql.to_owned(), principal.clone());
        let plan = async move {
            let planned = engine.plan(check::parse(&sql)?, &principal).await?;
            Prepared::new(planned, engine.inner.states.rules())
        };
        self.inner.compute.run(plan).await
    }

    /// Runs a prepared query with a value for each of its parameters: waits for its turn, freezes one state of its views,
    /// and computes as its stream is read, on the threads for queries. Dropping the future or the stream cancels it.
    ///
    /// # Errors
    /// `Overloaded` when too many wait already, `Timeout`, what `demand` lacks, and whatever the query or its views meet.
    pub async fn run(
        &self,
        prepared: &Prepared,
        values: Vec<ScalarValue>,
        demand: &Demand,
        principal: &Principal,
    ) -> Result<Running, Error> {
        let (engine, planned, demand) = (self.clone(), Arc::clone(&prepared.inner), demand.clone());
        for view in &planned.views {
            if !principal.may_read(view.name()) {
                return Err(Error::UnknownView {
                    name: view.name().to_owned(),
                    hint: None,
                });
            }
        }
        let schema = Arc::clone(prepared.schema());
        let start = async move { engine.start(Ok(planned), values, &demand, Some(schema)).await };
        let (rows, coverage) = self.inner.compute.run(start).await?;
        let schema = Arc::clone(rows.schema());
        let stop = rows.stop().map(Err);
        let rows = self.inner.compute.pipe(AHEAD, rows, stop);
        let stream = Box::pin(Piped {
            schema: Arc::clone(&schema),
            rows,
        });
        Ok(Running {
            schema,
            stream,
            coverage,
        })
    }

    /// Prepares and runs one statement, and collects its rows. Must be called on the threads for queries.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare) and [`run`](Self::run), and when the answer is too large.
    pub(crate) async fn answer(
        &self,
        sql: &str,
        values: Vec<ScalarValue>,
        demand: &Demand,
        principal: &Principal,
    ) -> Result<Answer, Error> {
        let (rows, coverage) = self.open(sql, values, demand, principal).await?;
        rows.collect(coverage).await
    }

    /// Prepares and starts one statement. Must be called on the threads for queries.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare) and [`run`](Self::run).
    pub(crate) async fn open(
        &self,
        sql: &str,
        values: Vec<ScalarValue>,
        demand: &Demand,
        principal: &Principal,
    ) -> Result<(Rows, CoverageMap), Error> {
        let statement = check::parse(sql)?;
        self.start(Err((statement, principal)), values, demand, None).await
    }

    /// Plans a statement over the views that answer at this moment.
    async fn plan(&self, statement: Statement, principal: &Principal) -> Result<Planned, Error> {
        let served = Arc::clone(&self.inner.consistency.adoption.pin().served);
        let scope = Scope::new(principal, &served, &self.inner.system)?;
        let names = check::views_of(&statement, &scope)?;
        let views: Vec<View> = scope
            .views
            .iter()
            .filter(|view| names.contains(view.name()))
            .cloned()
            .collect();
        let mut state = self.inner.states.lend(false);
        scope.enter(&mut state);
        let plan = state
            .statement_to_plan(statement.clone())
            .await
            .map_err(|error| explain(error, &views))?;
        check::read_only().verify_plan(&plan).map_err(Error::from_query)?;
        let parameters = parameters(&plan)?;
        Ok(Planned {
            statement,
            principal: principal.clone(),
            plan,
            views,
            parameters,
        })
    }

    /// Takes a ticket and starts a query, anew when a worker or a definition changes under it.
    async fn start(
        &self,
        what: Result<Arc<Planned>, (Statement, &Principal)>,
        values: Vec<ScalarValue>,
        demand: &Demand,
        schema: Option<SchemaRef>,
    ) -> Result<(Rows, CoverageMap), Error> {
        let principal = match &what {
            Ok(planned) => planned.principal.clone(),
            Err((_, principal)) => (*principal).clone(),
        };
        let mut ticket = self.inner.admission.enter(demand.timeout).await?;
        let started = self.attempts(what, values, demand, schema, &mut ticket).await;
        match started {
            Ok(started) => {
                let Started {
                    stream,
                    schema,
                    coverage,
                } = started;
                Ok((Rows::new(stream, schema, ticket, principal), coverage))
            }
            Err(error) => Err(ticket.fail(error)),
        }
    }

    async fn attempts(
        &self,
        what: Result<Arc<Planned>, (Statement, &Principal)>,
        values: Vec<ScalarValue>,
        demand: &Demand,
        schema: Option<SchemaRef>,
        ticket: &mut Ticket,
    ) -> Result<Started, Error> {
        let (mut planned, statement, principal) = match what {
            Ok(planned) => {
                let (statement, principal) = (planned.statement.clone(), planned.principal.clone());
                (Some(planned), statement, principal)
            }
            Err((statement, principal)) => (None, statement, principal.clone()),
        };
        let mut attempt = 1;
        loop {
            let this = match planned.take() {
                Some(planned) => planned,
                None => Arc::new(self.plan(statement.clone(), &principal).await?),
            };
            let begun = self.begin(&this, values.clone(), demand, schema.clone(), ticket).await;
            match begun {
                Err(error) if error.is_lost_worker() && attempt < ATTEMPTS => {
                    tracing::debug!(%error, "running the query again");
                    attempt += 1;
                }
                settled => return settled,
            }
        }
    }

    /// One attempt: freezes, binds, plans, and starts to execute.
    async fn begin(
        &self,
        planned: &Planned,
        values: Vec<ScalarValue>,
        demand: &Demand,
        schema: Option<SchemaRef>,
        ticket: &mut Ticket,
    ) -> Result<Started, Error> {
        let views = planned.views.as_slice();
        let plan = planned.bound(values)?;
        let (at, after) = ticket.deadline();
        let work = async {
            let frozen = self.inner.consistency.freeze_with(views, demand, Some(ticket)).await?;
            let frozen = Arc::new(frozen);
            let environment = admission::environment(Arc::clone(ticket.memory()))?;
            let state = self.state(&frozen, ticket);
            let physical = state
                .create_physical_plan(&plan)
                .await
                .and_then(cooperative)
                .map_err(|error| explain(error, views))?;
            let task = TaskContext::new(
                None,
                String::new(),
                state.config().clone(),
                // Plans hold the functions that they call; names are looked up in what others sent, of which there is nothing.
                HashMap::new(),
                HashMap::new(),
                HashMap::new(),
                HashMap::new(),
                environment,
            );
            drop(state);
            let stream = execute_stream(physical, Arc::new(task)).map_err(Error::from_query)?;
            let schema = match schema {
                Some(schema) if schema.fields().len() == stream.schema().fields().len() => schema,
                // The view changed so much that it gives other columns.
                Some(_) => return Err(Error::Superseded),
                None => columns(&planned.plan, &stream.schema()),
            };
            Ok(Started {
                stream,
                schema,
                coverage: frozen.coverage(),
            })
        };
        tokio::time::timeout_at(at, work)
            .await
            .map_err(|_| Error::Timeout { after })?
    }

    /// The session in which one execution is planned.
    fn state(&self, frozen: &Arc<Frozen>, ticket: &Ticket) -> Lent<'_> {
        let mut state = self.inner.states.lend(frozen.batch_rows() >= PARALLEL_ROWS);
        state.config_mut().set_extension(Arc::new(FrozenState {
            frozen: Arc::clone(frozen),
            memory: Arc::clone(ticket.memory()),
        }));
        state
    }
}

struct Started {
    stream: SendableRecordBatchStream,
    schema: SchemaRef,
    coverage: CoverageMap,
}

/// Names the nearest column in what the planner says about an unknown one.
fn explain(error: DataFusionError, views: &[View]) -> Error {
    if let DataFusionError::SchemaError(inner, _) = error.find_root()
        && let SchemaError::FieldNotFound { field, .. } = inner.as_ref()
    {
        let schemas: Vec<SchemaRef> = views.iter().map(View::output_schema).collect();
        let columns = schemas
            .iter()
            .flat_map(|schema| schema.fields().iter())
            .map(|field| field.name().as_str());
        let hint = match nearest(&field.name, columns.clone()) {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None => anabranch_catalog::did_you_mean(&field.name, columns),
        };
        return Error::Sql {
            message: format!("there is no column {}", field.quoted_flat_name()),
            hint,
        };
    }
    Error::from_query(error)
}
