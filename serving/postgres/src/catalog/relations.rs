use std::fmt;
use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_front::{Cause, QueryEngine, QueryError, Relation, RelationKind};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// What a principal may read, at any moment.
#[derive(Clone)]
pub(super) struct Listing {
    engine: Arc<dyn QueryEngine>,
    principal: Principal,
}

impl Listing {
    pub(super) fn new(engine: &Arc<dyn QueryEngine>, principal: &Principal) -> Self {
        Self {
            engine: Arc::clone(engine),
            principal: principal.clone(),
        }
    }

    pub(super) fn relations(&self) -> Vec<Relation> {
        self.engine.relations(&self.principal)
    }

    /// Whose relations they are.
    pub(super) fn owner(&self) -> &str {
        role(&self.principal)
    }
}

/// What a principal is called as a role: without the brackets of those that are no token.
pub(super) fn role(principal: &Principal) -> &str {
    principal.name.trim_matches(['<', '>'])
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listing").field(&self.principal).finish()
    }
}

/// The relations of one schema, to be looked at only.
#[derive(Debug)]
pub(super) struct Relations {
    schema: &'static str,
    listing: Listing,
    /// Searched for names that are not found here.
    behind: Option<Arc<dyn SchemaProvider>>,
}

impl Relations {
    pub(super) fn new(schema: &'static str, listing: Listing, behind: Option<Arc<dyn SchemaProvider>>) -> Self {
        Self {
            schema,
            listing,
            behind,
        }
    }

    fn all(&self) -> impl Iterator<Item = Relation> {
        let schema = self.schema;
        let relations = self.listing.relations().into_iter();
        relations.filter(move |relation| relation.schema == schema)
    }
}

#[async_trait]
impl SchemaProvider for Relations {
    fn table_names(&self) -> Vec<String> {
        self.all().map(|relation| relation.name).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(relation) = self.all().find(|relation| relation.name == name) {
            return Ok(Some(Arc::new(Outline::new(&relation))));
        }
        match &self.behind {
            Some(behind) => behind.table(name).await,
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.all().any(|relation| relation.name == name)
            || self.behind.as_ref().is_some_and(|behind| behind.table_exist(name))
    }
}

/// A relation's columns, without its rows.
#[derive(Debug)]
struct Outline {
    columns: SchemaRef,
    kind: TableType,
}

impl Outline {
    fn new(relation: &Relation) -> Self {
        let fields = relation.columns.fields().iter();
        let fields: Vec<Field> = fields
            .map(|field| Field::new(field.name(), as_told(field.data_type()), field.is_nullable()))
            .collect();
        Self {
            columns: Arc::new(Schema::new(fields)),
            kind: match relation.kind {
                RelationKind::View => TableType::View,
                RelationKind::System => TableType::Base,
            },
        }
    }
}

/// The type whose PostgreSQL type is the one that values are sent as.
fn as_told(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            match item.data_type().is_nested() {
                true => DataType::Utf8,
                false => DataType::new_list(as_told(item.data_type()), true),
            }
        }
        DataType::Dictionary(_, value) => as_told(value),
        nested if nested.is_nested() => DataType::Utf8,
        other => other.clone(),
    }
}

#[async_trait]
impl TableProvider for Outline {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    fn table_type(&self) -> TableType {
        self.kind
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let error = QueryError::new(
            Cause::Unsupported,
            "one query cannot read both views and the system catalogs",
        )
        .with_hint("ask in two queries");
        Err(DataFusionError::External(Box::new(error)))
    }
}
