use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, Result, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{BinaryExpr as LogicalBinary, Expr, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal, NegativeExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr, create_physical_expr};

use super::arithmetic::{GuardedArithmetic, GuardedNegative, is_arithmetic};
use super::cast::GuardedCast;
use super::function::GuardedFunction;
use super::guard::{Guarded, NullCounter};

/// Compiles logical expressions over one schema into guarded physical ones.
pub(crate) struct Scope<'a> {
    schema: DFSchemaRef,
    session: &'a SessionState,
    simplify: SimplifyContext,
    nulled: NullCounter,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(schema: DFSchema, session: &'a SessionState, nulled: NullCounter) -> Self {
        let schema = Arc::new(schema);
        let simplify = SimplifyContext::builder()
            .with_schema(Arc::clone(&schema))
            .with_config_options(Arc::clone(session.config_options()))
            .build();
        Self {
            schema,
            session,
            simplify,
            nulled,
        }
    }

    pub(crate) fn df_schema(&self) -> &DFSchema {
        &self.schema
    }

    pub(crate) fn arrow_schema(&self) -> &Schema {
        self.schema.as_arrow()
    }

    /// Compiles `expr`, which must have its types coerced. The result is of a [`plain_type`].
    pub(crate) fn compile(&self, expr: &Expr) -> Result<Arc<dyn PhysicalExpr>> {
        let expr = self.rewrite_functions(expr.clone())?;
        let mut props = ExecutionProps::new();
        props.config_options = Some(Arc::clone(self.session.config_options()));
        let physical = create_physical_expr(&expr, &self.schema, &props, &PhysicalPlanningContext::default())?;
        self.guard(physical)
    }

    /// Some functions exist only as a rewrite into other expressions, `coalesce` into CASE for example.
    fn rewrite_functions(&self, expr: Expr) -> Result<Expr> {
        expr.transform_up(|node| {
            let Expr::ScalarFunction(ScalarFunction { func, args }) = node else {
                return Ok(Transformed::no(node));
            };
            Ok(match func.simplify(args, &self.simplify)? {
                ExprSimplifyResult::Simplified(simpler) => Transformed::yes(simpler),
                ExprSimplifyResult::Original(args) => {
                    Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))
                }
            })
        })
        .map(|t| t.data)
    }

    fn guard(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let schema = self.arrow_schema();
        let nulled = &self.nulled;
        let guarded = expr
            .transform_up(|node| {
                let replaced: Arc<dyn PhysicalExpr> = if let Some(binary) = node.downcast_ref::<BinaryExpr>()
                    && is_arithmetic(*binary.op())
                {
                    Arc::new(GuardedArithmetic::new(binary, schema, nulled.clone())?)
                } else if let Some(cast) = node.downcast_ref::<CastExpr>() {
                    let inner = Arc::clone(cast.expr());
                    Arc::new(GuardedCast::new(inner, cast.cast_type().clone(), nulled.clone()))
                } else if let Some(negative) = node.downcast_ref::<NegativeExpr>() {
                    let data_type = negative.data_type(schema)?;
                    Arc::new(GuardedNegative::new(
                        Arc::clone(negative.arg()),
                        data_type,
                        nulled.clone(),
                    ))
                } else if let Some(call) = node.downcast_ref::<ScalarFunctionExpr>() {
                    Arc::new(GuardedFunction::new(call, schema, nulled.clone())?)
                } else {
                    return fold(node, schema);
                };
                Ok(Transformed::yes(fold(replaced, schema)?.data))
            })?
            .data;
        let data_type = guarded.data_type(schema)?;
        let plain = plain_type(&data_type);
        let guarded = if plain == data_type {
            guarded
        } else {
            Arc::new(GuardedCast::new(guarded, plain.clone(), nulled.clone()))
        };
        let needs_guard = !guarded.children().is_empty()
            && guarded.downcast_ref::<GuardedCast>().is_none()
            && guarded.downcast_ref::<GuardedFunction>().is_none();
        Ok(if needs_guard {
            Arc::new(Guarded::new(guarded, plain, nulled.clone()))
        } else {
            guarded
        })
    }
}

/// Evaluates a node whose children are all constants. One that fails stays as it is.
fn fold(node: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    let children = node.children();
    if children.is_empty() || !children.iter().all(|c| c.downcast_ref::<Literal>().is_some()) {
        return Ok(Transformed::no(node));
    }
    let data_type = node.data_type(schema)?;
    let row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )?;
    let value = node
        .evaluate(&row)
        .and_then(|v| v.into_array(1))
        .and_then(|a| ScalarValue::try_from_array(&a, 0));
    Ok(match value {
        Ok(value) if value.data_type() == data_type => Transformed::yes(Arc::new(Literal::new(value))),
        _ => Transformed::no(node),
    })
}

/// The type in which a value is kept: what files and other services read without a second encoding of text and bytes.
pub(crate) fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::Null => DataType::Boolean,
        other => other.clone(),
    }
}

/// The conjuncts of a predicate.
pub(crate) fn split_conjunction(expr: &Expr, out: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryExpr(LogicalBinary {
            left,
            op: Operator::And,
            right,
        }) => {
            split_conjunction(left, out);
            split_conjunction(right, out);
        }
        other => out.push(other.clone()),
    }
}

/// What a column is called in a [`canonical`] text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnsBy {
    /// Columns of an event, whose position means nothing.
    Name,
    /// Keys and answers, whose names come from how the query is written.
    Position,
}

/// A text that two expressions share only if they compute the same. Literals, which display without quotes, follow with
/// their types.
pub(crate) fn canonical(expr: &Arc<dyn PhysicalExpr>, schema: &Schema, by: ColumnsBy) -> Result<String> {
    let named = Arc::clone(expr)
        .transform_up(|node| {
            let Some(column) = node.downcast_ref::<Column>() else {
                return Ok(Transformed::no(node));
            };
            let column = match by {
                ColumnsBy::Name => Column::new(column.name(), 0),
                ColumnsBy::Position => Column::new("", column.index()),
            };
            Ok(Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>))
        })?
        .data;
    let mut text = format!("{named}");
    named.apply(|node| {
        if let Some(literal) = node.downcast_ref::<Literal>() {
            // Writing to a String cannot fail.
            let _ = write!(text, " {:?}", literal.value());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let _ = write!(text, " : {}", expr.data_type(schema)?);
    Ok(text)
}
