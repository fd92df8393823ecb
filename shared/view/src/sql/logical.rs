use anabranch_catalog::{Diagnostic, ViewDefinition};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};

use super::casts;
use super::check::{internal, locate};
use super::session::{event_df_schema, plan_query};

/// A view's plan, taken apart. Every expression has its types coerced.
#[derive(Debug)]
pub(crate) struct Logical {
    /// Over the event schema.
    pub events: DFSchema,
    /// Conjuncts of WHERE, over events.
    pub filters: Vec<Expr>,
    /// Over events.
    pub groups: Vec<Expr>,
    /// Aggregate calls; their arguments are over events.
    pub aggregates: Vec<Expr>,
    /// What stands above the aggregation sees these columns: groups, then aggregates.
    pub answers: DFSchemaRef,
    /// The SELECT list with its names, over `answers`.
    pub outputs: Vec<(String, Expr)>,
    /// Conjuncts of HAVING, over `answers`.
    pub having: Vec<Expr>,
}

/// Plans a definition that passed [`super::check`].
pub(crate) fn plan(definition: &ViewDefinition) -> Result<Logical, Diagnostic> {
    let events = event_df_schema(&definition.source).map_err(|e| internal(definition, &e))?;
    let plan = plan_query(&definition.source, &definition.ast).map_err(|e| locate(definition, &events, &e))?;
    take_apart(plan, events).map_err(|e| internal(definition, &e))
}

fn take_apart(plan: LogicalPlan, events: DFSchema) -> Result<Logical> {
    let names = plan
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect::<Vec<_>>();
    let above = inline(&plan)?;
    let LogicalPlan::Aggregate(Aggregate {
        input,
        group_expr,
        aggr_expr,
        schema,
        ..
    }) = above.leaf
    else {
        return plan_err!("a view groups: write GROUP BY, or an aggregate such as count(*)");
    };
    let below = inline(input)?;
    if !matches!(below.leaf, LogicalPlan::TableScan(_)) {
        return plan_err!("a view reads its table directly");
    }
    let over_events = |expr: &Expr| casts::plain(below.resolve(unalias(expr), input.schema())?);
    let plain = |exprs: Vec<Expr>| exprs.into_iter().map(casts::plain).collect::<Result<Vec<_>>>();
    Ok(Logical {
        events,
        groups: group_expr.iter().map(over_events).collect::<Result<_>>()?,
        aggregates: aggr_expr.iter().map(over_events).collect::<Result<_>>()?,
        outputs: names.into_iter().zip(plain(above.columns)?).collect(),
        having: plain(above.filters)?,
        filters: plain(below.filters)?,
        answers: schema.clone(),
    })
}

/// A chain of projections, filters and aliases as expressions over what it stands on.
struct Inlined<'a> {
    leaf: &'a LogicalPlan,
    /// One per column of the chain's top, over columns of the leaf.
    columns: Vec<Expr>,
    /// Predicates over columns of the leaf.
    filters: Vec<Expr>,
}

impl Inlined<'_> {
    /// Rewrites `expr` over `schema`, the schema of the chain's top, to columns of the leaf.
    fn resolve(&self, expr: Expr, schema: &DFSchema) -> Result<Expr> {
        expr.transform_up(|node| match &node {
            Expr::Column(column) => Ok(Transformed::yes(unalias(
                &self.columns[schema.index_of_column(column)?],
            ))),
            _ => Ok(Transformed::no(node)),
        })
        .map(|t| t.data)
    }
}

fn inline(plan: &LogicalPlan) -> Result<Inlined<'_>> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let below = inline(&projection.input)?;
            let columns = projection
                .expr
                .iter()
                .map(|e| below.resolve(unalias(e), projection.input.schema()))
                .collect::<Result<_>>()?;
            Ok(Inlined { columns, ..below })
        }
        LogicalPlan::Filter(filter) => {
            let mut below = inline(&filter.input)?;
            let predicate = below.resolve(filter.predicate.clone(), filter.input.schema())?;
            crate::expr::split_conjunction(&predicate, &mut below.filters);
            Ok(below)
        }
        LogicalPlan::SubqueryAlias(alias) => inline(&alias.input),
        LogicalPlan::Aggregate(_) | LogicalPlan::TableScan(_) => {
            let columns = plan
                .schema()
                .iter()
                .map(|(qualifier, field)| Expr::Column(Column::new(qualifier.cloned(), field.name())));
            Ok(Inlined {
                leaf: plan,
                columns: columns.collect(),
                filters: vec![],
            })
        }
        other => plan_err!("{} is not supported in a view", other.display()),
    }
}

/// The expression under its aliases.
fn unalias(expr: &Expr) -> Expr {
    expr.clone().unalias_nested().data
}
