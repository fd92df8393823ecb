mod domains;

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::Error;
use crate::error::During;
use crate::expr::{NullCounter, Scope, truth};
use crate::keys::KeyRanges;
use crate::plan::Plan;
use crate::sql;

use self::domains::Reader;
pub(crate) use self::domains::{Domain, Domains};

/// A predicate over group keys, applicable to state batches.
#[derive(Debug, Clone)]
pub struct KeyFilter {
    view: Arc<str>,
    predicate: Arc<dyn PhysicalExpr>,
    key_count: usize,
    ranges: Option<KeyRanges>,
}

impl KeyFilter {
    /// Keeps the rows of a state batch whose key satisfies the predicate.
    ///
    /// # Errors
    /// When the batch is not state of the view.
    pub fn apply(&self, state: &RecordBatch) -> Result<RecordBatch, Error> {
        if state.num_columns() < self.key_count {
            let reason = format!("{} columns, but {} keys", state.num_columns(), self.key_count);
            return Err(Error::State {
                view: Arc::clone(&self.view),
                reason,
            });
        }
        let mask = self
            .predicate
            .evaluate(state)
            .and_then(|v| v.into_array(state.num_rows()))
            .during(&self.view, "filtering by key")?;
        filter_record_batch(state, &truth(mask.as_boolean())).during(&self.view, "filtering by key")
    }

    /// Where, in the order of keys, the rows are that the predicate may keep; `None` when they may be anywhere.
    pub fn ranges(&self) -> Option<&KeyRanges> {
        self.ranges.as_ref()
    }

    /// Indices of the key columns that the predicate reads, ascending.
    pub fn key_indices(&self) -> Vec<usize> {
        let mut indices: Vec<usize> = collect_columns(&self.predicate).iter().map(|c| c.index()).collect();
        indices.sort_unstable();
        indices
    }
}

impl Plan {
    pub(crate) fn key_filter(&self, text: &str) -> Result<KeyFilter, Error> {
        let refuse = |message: String| Error::Filter {
            view: Arc::clone(&self.name),
            message,
        };
        let parsed = Parser::new(&PostgreSqlDialect {})
            .try_with_sql(text)
            .and_then(|mut parser| {
                let expr = parser.parse_expr()?;
                parser.expect_token(&datafusion::sql::sqlparser::tokenizer::Token::EOF)?;
                Ok(expr)
            })
            .map_err(|e| refuse(format!("`{text}` is not a predicate: {e}")))?;
        let (predicate, ranges) = self.compile_key_predicate(&parsed).map_err(|e| {
            let keys: Vec<&str> = self.output_keys.iter().map(|(name, _)| name.as_str()).collect();
            refuse(format!(
                "`{text}`: {}; keys are {}",
                e.strip_backtrace(),
                keys.join(", ")
            ))
        })?;
        Ok(KeyFilter {
            view: Arc::clone(&self.name),
            predicate,
            key_count: self.key_count,
            ranges,
        })
    }

    fn compile_key_predicate(
        &self,
        parsed: &datafusion::sql::sqlparser::ast::Expr,
    ) -> Result<(Arc<dyn PhysicalExpr>, Option<KeyRanges>)> {
        // First by the names of the output, each name once; then renumbered to the columns of the state.
        let fields: Vec<Field> = self
            .output_keys
            .iter()
            .map(|(name, key)| Field::new(name, self.state_schema.field(*key).data_type().clone(), true))
            .collect();
        let schema = DFSchema::try_from(Schema::new(fields))?;
        let expr = sql::coerced_expression(&self.source, &schema, parsed)?;
        if !is_immutable(&expr)? {
            return plan_err!("it calls a function that gives another answer each time");
        }
        // A row on which the predicate fails is left out, as by any filter; nobody counts that.
        let scope = Scope::new(schema, sql::session(), NullCounter::default());
        let predicate = scope.compile(&expr)?;
        let ranges = self.key_ranges(&expr, &scope);
        let state = Arc::clone(&self.state_schema);
        Ok((renumber(predicate, &self.output_keys, &state)?, ranges))
    }

    fn key_ranges(&self, predicate: &Expr, scope: &Scope) -> Option<KeyRanges> {
        let codec = self.codec.as_ref()?;
        let keys: Vec<(&str, usize, &DataType)> = self
            .output_keys
            .iter()
            .map(|(name, key)| (name.as_str(), *key, self.state_schema.field(*key).data_type()))
            .collect();
        let reader = Reader {
            keys: &keys,
            constant: &|expr| constant(expr, scope),
        };
        KeyRanges::new(codec, &reader.read(predicate))
    }
}

/// The value of an expression that reads no column.
fn constant(expr: &Expr, scope: &Scope) -> Option<ScalarValue> {
    if let Expr::Literal(value, _) = expr {
        return Some(value.clone());
    }
    if expr.any_column_refs() {
        return None;
    }
    let one = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &one).ok()?;
    let value = scope.compile(expr).ok()?.evaluate(&row).ok()?;
    ScalarValue::try_from_array(&value.into_array(1).ok()?, 0).ok()
}

fn is_immutable(expr: &Expr) -> Result<bool> {
    let mut immutable = true;
    expr.apply(|node| {
        if let Expr::ScalarFunction(call) = node {
            immutable &= call.func.signature().volatility == Volatility::Immutable;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(immutable)
}

/// Columns numbered by output key become columns of the state.
fn renumber(
    predicate: Arc<dyn PhysicalExpr>,
    output_keys: &[(String, usize)],
    state: &Schema,
) -> Result<Arc<dyn PhysicalExpr>> {
    use datafusion::common::tree_node::Transformed;
    use datafusion::physical_expr::expressions::Column;
    predicate
        .transform_up(|node| {
            let Some(column) = node.downcast_ref::<Column>() else {
                return Ok(Transformed::no(node));
            };
            let key = output_keys[column.index()].1;
            Ok(Transformed::yes(
                Arc::new(Column::new(state.field(key).name(), key)) as Arc<dyn PhysicalExpr>
            ))
        })
        .map(|t| t.data)
}
