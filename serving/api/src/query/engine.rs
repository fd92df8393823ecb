use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

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
use parking_lot::Mutex;

use super::check;
use super::cooperate::cooperative;
use super::direct::{self, Direct, Taken};
use super::literals::Lifted;
use super::plans::{LONGEST_TEXT, Plans};
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
use crate::snapshot::pushdown::Pushdown;
use crate::snapshot::reading::Reading;

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
    plans: Plans,
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
                plans: Plans::default(),
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
            let planned = match engine.known(&sql, &principal) {
                Some(known) => known,
                None => {
                    let planned = Arc::new(engine.plan(check::parse(&sql)?, &principal).await?);
                    engine.inner.plans.put(&sql, &planned);
                    planned
                }
            };
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
        let asks = principal.clone();
        for view in &planned.views {
            if !principal.may_read(view.name()) {
                return Err(Error::UnknownView {
                    name: view.name().to_owned(),
                    hint: None,
                });
            }
        }
        let schema = Arc::clone(prepared.schema());
        let start = async move {
            let asked = Asked::Prepared(planned);
            engine.start(asked, values, &demand, Some(schema), &asks).await
        };
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
        let asked = match self.known(sql, principal) {
            Some(known) => Asked::Known(sql, known),
            None => Asked::New(sql, check::parse(sql)?),
        };
        self.start(asked, values, demand, None, principal).await
    }

    /// The plan of a statement that was asked before.
    fn known(&self, sql: &str, principal: &Principal) -> Option<Arc<Planned>> {
        let published = self.inner.consistency.adoption.pin();
        self.inner.plans.get(sql, &published, principal)
    }

    /// The plan of a new statement, and the values of its parameters: perhaps that of one which differs in values alone.
    async fn plan_new(
        &self,
        sql: &str,
        statement: Statement,
        values: Vec<ScalarValue>,
        principal: &Principal,
    ) -> Result<(Arc<Planned>, Vec<ScalarValue>), Error> {
        let lifted = match values.is_empty() && sql.len() <= LONGEST_TEXT {
            true => Lifted::of(sql, &statement),
            false => None,
        };
        let Some(lifted) = lifted else {
            let planned = Arc::new(self.plan(statement, principal).await?);
            self.inner.plans.put(sql, &planned);
            return Ok((planned, values));
        };
        let known = match self.known(&lifted.text, principal) {
            Some(known) => Some(known),
            // What is wrong with it is told in its own words.
            None => self
                .plan(lifted.statement.clone(), principal)
                .await
                .ok()
                .map(|planned| {
                    let planned = Arc::new(planned);
                    self.inner.plans.put(&lifted.text, &planned);
                    planned
                }),
        };
        if let Some(known) = known
            && lifted.fits(&known.parameters)
            && let Ok(values) = known.converted(lifted.values)
        {
            return Ok((known, values));
        }
        Ok((Arc::new(self.plan(statement, principal).await?), values))
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
        let direct = match views.as_slice() {
            [view] if parameters.iter().all(Option::is_some) && direct::is_small(&plan) => {
                let rules = self.inner.states.rules();
                let analysed = rules
                    .analyzer()
                    .execute_and_check(plan.clone(), rules.config_options(), |_, _| {});
                analysed.ok().and_then(|analysed| Direct::of(&analysed, view))
            }
            _ => None,
        };
        Ok(Planned {
            statement,
            plan,
            views,
            parameters,
            direct,
            columns: OnceLock::new(),
        })
    }

    /// Takes a ticket and starts a query, anew when a worker or a definition changes under it.
    async fn start(
        &self,
        asked: Asked<'_>,
        values: Vec<ScalarValue>,
        demand: &Demand,
        schema: Option<SchemaRef>,
        principal: &Principal,
    ) -> Result<(Rows, CoverageMap), Error> {
        let mut ticket = self.inner.admission.enter(demand.timeout).await?;
        let started = self
            .attempts(asked, values, demand, schema, principal, &mut ticket)
            .await;
        match started {
            Ok(started) => {
                let Started {
                    stream,
                    schema,
                    coverage,
                } = started;
                Ok((Rows::new(stream, schema, ticket, principal.clone()), coverage))
            }
            Err(error) => Err(ticket.fail(error)),
        }
    }

    async fn attempts(
        &self,
        asked: Asked<'_>,
        values: Vec<ScalarValue>,
        demand: &Demand,
        schema: Option<SchemaRef>,
        principal: &Principal,
        ticket: &mut Ticket,
    ) -> Result<Started, Error> {
        let again = asked.again();
        let given = values.clone();
        let (mut planned, mut values) = match asked {
            Asked::Prepared(planned) | Asked::Known(_, planned) => (planned, values),
            Asked::New(sql, statement) => self.plan_new(sql, statement, values, principal).await?,
        };
        let mut attempt = 1;
        loop {
            let begun = self.begin(&planned, values, demand, schema.clone(), ticket).await;
            match begun {
                Err(error) if error.is_lost_worker() && attempt < ATTEMPTS => {
                    tracing::debug!(%error, "running the query again");
                    attempt += 1;
                    planned = Arc::new(self.plan(again.statement()?, principal).await?);
                    values = given.clone();
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
        let values = planned.converted(values)?;
        let (at, after) = ticket.deadline();
        let work = async {
            let frozen = self.inner.consistency.freeze_with(views, demand, Some(ticket)).await?;
            let frozen = Arc::new(frozen);
            let started = |stream: SendableRecordBatchStream| {
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
            let mut opened = None;
            if let (Some(direct), [view]) = (&planned.direct, views) {
                match direct.run(view, &values, &frozen, ticket.memory()).await? {
                    Taken::Rows(stream) => return started(stream),
                    Taken::TooLarge(view) => opened = view,
                }
            }
            let plan = planned.bound(values)?;
            let environment = admission::environment(Arc::clone(ticket.memory()))?;
            let state = self.state(&frozen, opened, ticket);
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
            started(stream)
        };
        tokio::time::timeout_at(at, work)
            .await
            .map_err(|_| Error::Timeout { after })?
    }

    /// The session in which one execution is planned.
    fn state(&self, frozen: &Arc<Frozen>, opened: Option<(Pushdown, Reading)>, ticket: &Ticket) -> Lent<'_> {
        let mut state = self.inner.states.lend(frozen.batch_rows() >= PARALLEL_ROWS);
        state.config_mut().set_extension(Arc::new(FrozenState {
            frozen: Arc::clone(frozen),
            opened: Mutex::new(opened),
            memory: Arc::clone(ticket.memory()),
        }));
        state
    }
}

/// What is asked.
enum Asked<'a> {
    New(&'a str, Statement),
    /// The same text was planned before.
    Known(&'a str, Arc<Planned>),
    Prepared(Arc<Planned>),
}

impl<'a> Asked<'a> {
    fn again(&self) -> Again<'a> {
        match self {
            Self::New(sql, _) | Self::Known(sql, _) => Again::Text(sql),
            Self::Prepared(planned) => Again::Prepared(Arc::clone(planned)),
        }
    }
}

/// What is asked, when it is asked anew.
enum Again<'a> {
    Text(&'a str),
    Prepared(Arc<Planned>),
}

impl Again<'_> {
    fn statement(&self) -> Result<Statement, Error> {
        match self {
            Self::Text(sql) => check::parse(sql),
            Self::Prepared(planned) => Ok(planned.statement.clone()),
        }
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
