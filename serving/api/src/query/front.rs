//! The query engine, as front ends ask it.

use std::sync::Arc;

use anabranch_access::{Perimeter, Principal};
use anabranch_front::{
    Cause, Demand, PUBLIC, Prepared, QueryEngine, QueryError, Relation, RelationKind, Running, SYSTEM,
};
use anabranch_model::TopicOffsets;
use anabranch_runtime::http::ApiError;
use anabranch_view::View;
use async_trait::async_trait;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::scalar::ScalarValue;
use futures::StreamExt;

use super::engine::SqlEngine;
use super::prepared::Prepared as Planned;
use super::system::Table;
use crate::Error;
use crate::follow::adoption::Adoption;
use crate::snapshot::consistency::{self, Arm};

/// Answers front ends out of the same engine as HTTP requests.
pub(crate) struct FrontEngine {
    pub(crate) sql: SqlEngine,
    pub(crate) adoption: Arc<Adoption>,
    /// Counts queries, as it counts HTTP requests itself.
    pub(crate) perimeter: Perimeter,
}

#[async_trait]
impl QueryEngine for FrontEngine {
    fn relations(&self, principal: &Principal) -> Vec<Relation> {
        let published = self.adoption.pin();
        let views = published.served.iter().filter(|view| principal.may_read(view.name()));
        let mut relations: Vec<Relation> = views
            .map(|view| Relation {
                schema: PUBLIC,
                name: view.name().to_owned(),
                columns: view.output_schema(),
                kind: RelationKind::View,
                definition: published
                    .catalog()
                    .views
                    .get(view.name())
                    .map(|definition| definition.query.clone()),
            })
            .collect();
        relations.sort_by(|a, b| a.name.cmp(&b.name));
        let tables = Table::ALL.into_iter().filter(|table| table.is_readable(principal));
        relations.extend(tables.map(|table| Relation {
            schema: SYSTEM,
            name: table.name().to_owned(),
            columns: table.schema(),
            kind: RelationKind::System,
            definition: None,
        }));
        relations
    }

    async fn prepare(&self, sql: &str, principal: &Principal) -> Result<Prepared, QueryError> {
        let prepared = self.sql.prepare(sql, principal).await.map_err(of_engine)?;
        let (schema, parameters) = (Arc::clone(prepared.schema()), prepared.parameters().to_vec());
        Ok(Prepared::new(schema, parameters, prepared))
    }

    async fn run(
        &self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
        demand: &Demand,
        principal: &Principal,
    ) -> Result<Running, QueryError> {
        let Some(plan) = prepared.plan::<Planned>() else {
            return Err(QueryError::new(Cause::Internal, "a query was prepared elsewhere"));
        };
        if let Err(wait) = self.perimeter.count_query(principal) {
            let error = QueryError::new(Cause::Busy, "too many requests");
            return Err(error.with_hint(format!("wait {} s", wait.as_secs().max(1))));
        }
        let demand = consistency::Demand {
            exact: demand.exact,
            at_least: self.of_query(plan, &demand.at_least),
            timeout: demand.patience,
            arm: Arm::Merged,
        };
        let running = self
            .sql
            .run(plan, parameters, &demand, principal)
            .await
            .map_err(of_engine)?;
        let batches = running
            .stream
            .map(|batch| batch.map_err(|error| of_engine(Error::from_query(error))));
        Ok(Running {
            schema: running.schema,
            batches: batches.boxed(),
            coverage: running.coverage,
        })
    }
}

impl FrontEngine {
    /// What holds for a session names topics that not every query of it reads. A topic of no view at all stays, and is refused.
    fn of_query(&self, plan: &Planned, at_least: &TopicOffsets) -> TopicOffsets {
        let published = self.adoption.pin();
        let reads = |views: &[View], topic: &str| views.iter().any(|view| view.source().topic == topic);
        let concerns = |name: &str| {
            name.rsplit_once('/')
                .is_none_or(|(topic, _)| reads(&plan.inner.views, topic) || !reads(&published.served, topic))
        };
        at_least
            .iter()
            .filter(|(name, _)| concerns(name))
            .map(|(name, offset)| (name.clone(), *offset))
            .collect()
    }
}

/// An error of the engine in the words that front ends know.
fn of_engine(error: Error) -> QueryError {
    let cause = match &error {
        Error::UnknownView { .. } | Error::UnknownTable { .. } => Cause::UnknownRelation,
        Error::UnknownColumn { .. } => Cause::UnknownColumn,
        Error::Superseded => Cause::Changed,
        Error::Inexact { .. } | Error::Behind { .. } => Cause::Demand,
        Error::Timeout { .. } => Cause::Timeout,
        Error::Ended(_) => Cause::Denied,
        Error::AnswerTooLarge { .. } | Error::BodyTooLarge { .. } => Cause::TooLarge,
        Error::Overloaded { .. } | Error::MemoryBusy { .. } => Cause::Busy,
        Error::Sql { message, .. } if unknown_column(message).is_some() => Cause::UnknownColumn,
        Error::WorkerFailed { .. } | Error::NoService { .. } => Cause::Unavailable,
        Error::Query(error) => of_planner(error),
        other => of_kind(other.kind()),
    };
    let about = match &error {
        Error::UnknownView { name, .. } | Error::UnknownTable { name, .. } => Some(name.clone()),
        Error::UnknownColumn { column, .. } => Some(column.clone()),
        Error::Sql { message, .. } => unknown_column(message).map(str::to_owned),
        Error::Query(error) => missing_column(error),
        _ => None,
    };
    let ApiError { message, hint, .. } = ApiError::from(error);
    QueryError {
        cause,
        message,
        hint,
        about,
    }
}

fn of_kind(kind: anabranch_model::ErrorKind) -> Cause {
    use anabranch_model::ErrorKind;
    match kind {
        ErrorKind::Invalid | ErrorKind::Conflict => Cause::Invalid,
        ErrorKind::NotFound => Cause::UnknownRelation,
        ErrorKind::Unavailable => Cause::Unavailable,
        ErrorKind::Data | ErrorKind::Internal => Cause::Internal,
    }
}

fn of_planner(error: &DataFusionError) -> Cause {
    match error.find_root() {
        DataFusionError::SQL(..) => Cause::Syntax,
        DataFusionError::SchemaError(..) => Cause::UnknownColumn,
        DataFusionError::Plan(message) if message.contains("Invalid function") => Cause::UnknownFunction,
        DataFusionError::NotImplemented(_) => Cause::Unsupported,
        DataFusionError::ResourcesExhausted(_) => Cause::TooLarge,
        DataFusionError::Plan(_)
        | DataFusionError::Execution(_)
        | DataFusionError::ArrowError(..)
        | DataFusionError::Collection(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::External(_) => Cause::Invalid,
        _ => Cause::Internal,
    }
}

/// The column that the planner did not find, as the engine says it.
fn unknown_column(message: &str) -> Option<&str> {
    message.strip_prefix("there is no column ")
}

fn missing_column(error: &DataFusionError) -> Option<String> {
    match error.find_root() {
        DataFusionError::SchemaError(inner, _) => match inner.as_ref() {
            SchemaError::FieldNotFound { field, .. } => Some(field.name.clone()),
            _ => None,
        },
        _ => None,
    }
}
