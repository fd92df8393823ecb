//! A view, compiled: everything that `prepare`, `fold`, `merge` and `finalise` need, computed once.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::Arc;

use anabranch_catalog::{Diagnostic, Source, ViewDefinition};
use anabranch_model::columns::timestamp_type;
use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column as LogicalColumn, DFSchema, DataFusionError, Result, TableReference, plan_err};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};

use crate::aggregate::{Answer, Class, Slot, Slots};
use crate::aggregator::Aggregator;
use crate::describe;
use crate::error::{During, Error};
use crate::expr::{ColumnsBy, NullCounter, Scope, canonical, plain_type};
use crate::keys::{KeyCodec, can_be_key};
use crate::sql::{self, Logical};
use crate::window::{Grid, HOP, Windows};

/// The column that stands for `hop(…)` once rows are expanded.
pub(crate) const HOP_COLUMN: &str = "_hop";

pub(crate) struct Plan {
    pub name: Arc<str>,
    pub source: Arc<Source>,
    pub hash: String,
    pub input_columns: Vec<String>,
    pub prepare: PreparePlan,
    pub slots: Vec<Slot>,
    /// For each slot, its columns in the state schema.
    pub slot_columns: Vec<std::ops::Range<usize>>,
    pub key_count: usize,
    pub state_schema: SchemaRef,
    /// Encodes keys; `None` without GROUP BY.
    pub codec: Option<KeyCodec>,
    pub answers: Vec<Answer>,
    /// Keys, then answers: what outputs and HAVING are computed over.
    pub answer_schema: SchemaRef,
    pub having: Vec<Arc<dyn PhysicalExpr>>,
    pub outputs: Vec<Arc<dyn PhysicalExpr>>,
    pub output_schema: SchemaRef,
    pub output_classes: Vec<Class>,
    pub output_keys: Vec<(String, usize)>,
    pub description: serde_json::Value,
    pub nulled: NullCounter,
}

/// From events to keys and aggregate inputs.
pub(crate) struct PreparePlan {
    /// WHERE, as far as it does not need the hop's window, over its own columns.
    pub filter: Option<(Arc<dyn PhysicalExpr>, SchemaRef)>,
    /// The columns that everything after WHERE reads.
    pub columns: SchemaRef,
    /// Which of these may be dictionaries: what reads them does without their plain values.
    pub dictionary: Vec<bool>,
    /// Whether aggregates may skip the rows that WHERE leaves out: there is one group, and nothing is computed of a row.
    pub selects: bool,
    /// The times that `hop` expands, and how.
    pub hop: Option<(Arc<dyn PhysicalExpr>, Grid)>,
    /// `columns` and the hop's window.
    pub expanded: SchemaRef,
    /// The rest of WHERE, over `expanded`.
    pub hop_filter: Option<Arc<dyn PhysicalExpr>>,
    /// Every distinct expression, evaluated once.
    pub exprs: Vec<Evaluated>,
    /// Indices into `exprs`.
    pub keys: Vec<usize>,
    /// Indices into `exprs`, and whether the column is a FILTER predicate.
    pub inputs: Vec<(usize, bool)>,
}

pub(crate) struct Evaluated {
    pub expr: Arc<dyn PhysicalExpr>,
    /// Whether it reads the hop's window, and so is evaluated after the expansion, over `expanded`.
    pub expanded: bool,
}

pub(crate) fn compile(definition: &ViewDefinition) -> Result<Plan, Diagnostic> {
    sql::check(definition)?;
    let logical = sql::plan(definition)?;
    let plan = build(definition, &logical).map_err(|e| match e {
        Refused::Aggregate(index, e) => sql::in_aggregate(definition, &logical.events, &logical.aggregates[index], &e),
        Refused::Key(index, reason) => Diagnostic::new(sql::place_of_key(definition, index), reason)
            .with_hint("group by a part of it, or by a text of it"),
        Refused::Elsewhere(e) => sql::internal(definition, &e),
    })?;
    plan.rehearse().map_err(|e| {
        let reason = e.source().map_or_else(|| e.to_string(), ToString::to_string);
        Diagnostic::new(definition.place, format!("the view does not compute: {reason}"))
    })
}

impl Plan {
    /// Answers an event of nothing but NULLs, so that whatever fails for every event fails now.
    fn rehearse(self) -> Result<Self, Error> {
        let schema = sql::event_schema(&self.source);
        let columns = schema
            .fields()
            .iter()
            .map(|f| new_null_array(f.data_type(), 1))
            .collect();
        let event = RecordBatch::try_new(Arc::new(schema), columns).during(&self.name, "rehearsal")?;
        let plan = Arc::new(self);
        let mut aggregator = Aggregator::new(Arc::clone(&plan))?;
        aggregator.fold(&plan.prepare(&event)?)?;
        plan.finalise(&aggregator.emit()?)?;
        drop(aggregator);
        plan.nulled.reset();
        Ok(Arc::into_inner(plan).expect("the aggregator, its only other owner, is gone"))
    }
}

/// Why a plan cannot be compiled, and which part of it.
enum Refused {
    Aggregate(usize, DataFusionError),
    Key(usize, String),
    Elsewhere(DataFusionError),
}

impl From<DataFusionError> for Refused {
    fn from(error: DataFusionError) -> Self {
        Self::Elsewhere(error)
    }
}

fn build(definition: &ViewDefinition, logical: &Logical) -> Result<Plan, Refused> {
    let source = &definition.source;
    let session = sql::session();
    let nulled = NullCounter::default();

    // hop(…) becomes a column of its own.
    let mut hop = None;
    let mut without_hop = |expr: &Expr| replace_hop(expr, &mut hop);
    let filters = logical
        .filters
        .iter()
        .map(&mut without_hop)
        .collect::<Result<Vec<_>>>()?;
    let groups = logical
        .groups
        .iter()
        .map(&mut without_hop)
        .collect::<Result<Vec<_>>>()?;
    let aggregates = logical
        .aggregates
        .iter()
        .map(&mut without_hop)
        .collect::<Result<Vec<_>>>()?;
    let scope = Scope::new(with_hop_column(&logical.events)?, session, nulled.clone());
    let schema = scope.arrow_schema();

    let mut slots = Slots::new(&scope, &source.name, source.event_time.as_deref(), nulled.clone());
    let mut answers = vec![];
    let mut classes = vec![];
    for (index, aggregate) in aggregates.iter().enumerate() {
        let (answer, class) = slots
            .add_rehearsed(aggregate)
            .map_err(|e| Refused::Aggregate(index, e))?;
        answers.push(answer);
        classes.push(class);
    }
    let keys = groups.iter().map(|g| scope.compile(g)).collect::<Result<Vec<_>>>()?;
    for (index, key) in keys.iter().enumerate() {
        let data_type = key.data_type(schema)?;
        if !can_be_key(&data_type) {
            return Err(Refused::Key(
                index,
                format!("a value of type {data_type} cannot be grouped by"),
            ));
        }
    }
    let (late, early): (Vec<Expr>, Vec<Expr>) = filters.into_iter().partition(reads_hop);
    let conjunction = |parts: Vec<Expr>| {
        parts
            .into_iter()
            .reduce(Expr::and)
            .map(|e| scope.compile(&e))
            .transpose()
    };
    let (early, late) = (conjunction(early)?, conjunction(late)?);
    let hop_time = match &hop {
        Some(windows) => Some((scope.compile(&windows.time)?, windows.grid)),
        None => None,
    };

    let Slots { slots, inputs, .. } = slots;
    let texts = Texts {
        filter: early
            .iter()
            .chain(&late)
            .map(|e| canonical(e, schema, ColumnsBy::Name))
            .collect::<Result<_>>()?,
        hop: match &hop_time {
            Some((time, grid)) => Some(format!("{} {grid:?}", canonical(time, schema, ColumnsBy::Name)?)),
            None => None,
        },
        keys: keys
            .iter()
            .map(|e| canonical(e, schema, ColumnsBy::Name))
            .collect::<Result<_>>()?,
    };
    let key_types = keys.iter().map(|k| k.data_type(schema)).collect::<Result<Vec<_>>>()?;
    let takes_dictionary = |input: usize| {
        let reads = |slot: &&Slot| slot.args.contains(&input) || slot.filter == Some(input);
        slots.iter().filter(reads).all(Slot::takes_dictionary)
    };
    let dictionaries: Vec<bool> = (0..inputs.exprs.len()).map(takes_dictionary).collect();
    let inputs = inputs.exprs.into_iter().map(|i| (i.expr, i.predicate)).collect();
    let prepare = prepare_plan(schema, early, late, hop_time, keys, inputs, &dictionaries)?;
    let input_columns = prepare.input_columns();

    let mut fields: Vec<Field> = key_types
        .iter()
        .enumerate()
        .map(|(i, t)| Field::new(format!("key{i}"), t.clone(), true))
        .collect();
    let mut slot_columns = Vec::with_capacity(slots.len());
    for (number, slot) in slots.iter().enumerate() {
        let from = fields.len();
        fields.extend(slot.state_fields(number)?);
        slot_columns.push(from..fields.len());
    }
    let state_schema = Arc::new(Schema::new(fields));
    let codec = KeyCodec::new(&state_schema, key_types.len()).map_err(DataFusionError::from)?;

    let finalise = finalise_plan(logical, &key_types, &classes, &nulled)?;
    let hash = describe::hash(source, &texts, &slots, &answers, &state_schema, &finalise.text);
    let description = describe::describe(&describe::Description {
        definition,
        logical,
        hop: hop.as_ref(),
        input_columns: &input_columns,
        slots: &slots,
        state_schema: &state_schema,
        key_types: &key_types,
        output_schema: &finalise.output_schema,
        output_classes: &finalise.output_classes,
        hash: &hash,
    });
    Ok(Plan {
        name: definition.name.as_str().into(),
        source: Arc::clone(source),
        hash,
        input_columns,
        prepare,
        slots,
        slot_columns,
        key_count: key_types.len(),
        state_schema,
        codec,
        answers,
        answer_schema: finalise.answer_schema,
        having: finalise.having,
        outputs: finalise.outputs,
        output_schema: finalise.output_schema,
        output_classes: finalise.output_classes,
        output_keys: finalise.output_keys,
        description,
        nulled,
    })
}

/// The parts of a plan that its hash is made of, beside slots and schemas.
pub(crate) struct Texts {
    pub filter: Vec<String>,
    pub hop: Option<String>,
    pub keys: Vec<String>,
}

/// Replaces calls of hop by [`HOP_COLUMN`] and remembers the call.
fn replace_hop(expr: &Expr, hop: &mut Option<Windows>) -> Result<Expr> {
    expr.clone()
        .transform_down(|node| {
            let Expr::ScalarFunction(call) = &node else {
                return Ok(Transformed::no(node));
            };
            if call.func.name() != HOP {
                return Ok(Transformed::no(node));
            }
            let windows = match Windows::of(call) {
                Ok(windows) => windows,
                Err((reason, hint)) => return plan_err!("{reason}; {hint}"),
            };
            if hop.as_ref().is_some_and(|first| *first != windows) {
                return plan_err!("a view has at most one hop");
            }
            *hop = Some(windows);
            Ok(Transformed::yes(Expr::Column(LogicalColumn::new_unqualified(
                HOP_COLUMN,
            ))))
        })
        .map(|t| t.data)
}

fn reads_hop(expr: &Expr) -> bool {
    expr.column_refs()
        .iter()
        .any(|c| c.relation.is_none() && c.name == HOP_COLUMN)
}

fn with_hop_column(events: &DFSchema) -> Result<DFSchema> {
    let mut fields: Vec<(Option<TableReference>, Arc<Field>)> = events
        .iter()
        .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
        .collect();
    fields.push((None, Arc::new(Field::new(HOP_COLUMN, timestamp_type(), true))));
    DFSchema::new_with_metadata(fields, Default::default())
}

fn prepare_plan(
    schema: &Schema,
    early: Option<Arc<dyn PhysicalExpr>>,
    late: Option<Arc<dyn PhysicalExpr>>,
    hop: Option<(Arc<dyn PhysicalExpr>, Grid)>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    inputs: Vec<(Arc<dyn PhysicalExpr>, bool)>,
    dictionaries: &[bool],
) -> Result<PreparePlan> {
    let filter = match early {
        Some(expr) => {
            let columns = project(schema, [&expr]);
            Some((reassign_expr_columns(expr, &columns)?, columns))
        }
        None => None,
    };
    let mut distinct: Vec<Arc<dyn PhysicalExpr>> = vec![];
    let mut add = |expr: Arc<dyn PhysicalExpr>| {
        distinct.iter().position(|known| known.eq(&expr)).unwrap_or_else(|| {
            distinct.push(expr);
            distinct.len() - 1
        })
    };
    let keys: Vec<usize> = keys.into_iter().map(&mut add).collect();
    let inputs: Vec<(usize, bool)> = inputs
        .into_iter()
        .map(|(expr, predicate)| (add(expr), predicate))
        .collect();

    let columns = project(
        schema,
        distinct.iter().chain(&late).chain(hop.as_ref().map(|(time, _)| time)),
    );
    // A column whose plain values somebody needs: in an expression, or in an accumulator that is not ours.
    let plain_inputs = inputs.iter().zip(dictionaries).filter(|(_, takes)| !**takes);
    let plain: BTreeSet<usize> = plain_inputs.map(|(&(expr, _), _)| expr).collect();
    let is_column = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Column>().is_some();
    let readers = distinct.iter().enumerate();
    let needing = readers
        .filter(|(i, expr)| plain.contains(i) || !is_column(expr))
        .map(|(_, expr)| expr);
    let needed = project(schema, needing.chain(&late).chain(hop.as_ref().map(|(time, _)| time)));
    let dictionary = columns
        .fields()
        .iter()
        .map(|field| *field.data_type() == DataType::Utf8 && needed.column_with_name(field.name()).is_none())
        .collect();
    let selects = keys.is_empty() && hop.is_none() && distinct.iter().all(is_column);
    let mut fields: Vec<Arc<Field>> = columns.fields().iter().cloned().collect();
    if hop.is_some() {
        fields.push(Arc::new(Field::new(HOP_COLUMN, timestamp_type(), true)));
    }
    let expanded = Arc::new(Schema::new(fields));
    let exprs = distinct
        .into_iter()
        .map(|expr| {
            let reads_hop = collect_columns(&expr).iter().any(|c| c.name() == HOP_COLUMN);
            Ok(Evaluated {
                expr: reassign_expr_columns(expr, &expanded)?,
                expanded: reads_hop,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let hop = match hop {
        Some((time, grid)) => Some((reassign_expr_columns(time, &expanded)?, grid)),
        None => None,
    };
    let hop_filter = late.map(|expr| reassign_expr_columns(expr, &expanded)).transpose()?;
    Ok(PreparePlan {
        filter,
        columns,
        dictionary,
        selects,
        hop,
        expanded,
        hop_filter,
        exprs,
        keys,
        inputs,
    })
}

/// The event columns that expressions read, in schema order.
fn project<'e>(schema: &Schema, exprs: impl IntoIterator<Item = &'e Arc<dyn PhysicalExpr>>) -> SchemaRef {
    let read: BTreeSet<usize> = exprs
        .into_iter()
        .flat_map(|e| collect_columns(e).into_iter().map(|c| c.index()))
        .collect();
    let fields = read
        .into_iter()
        .map(|i| schema.field(i))
        .filter(|f| f.name() != HOP_COLUMN);
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

impl PreparePlan {
    fn input_columns(&self) -> Vec<String> {
        let filtered = self.filter.iter().flat_map(|(_, columns)| columns.fields());
        let mut names: Vec<String> = vec![];
        for field in filtered.chain(self.columns.fields()) {
            if !names.contains(field.name()) {
                names.push(field.name().clone());
            }
        }
        names
    }
}

struct FinalisePlan {
    answer_schema: SchemaRef,
    having: Vec<Arc<dyn PhysicalExpr>>,
    outputs: Vec<Arc<dyn PhysicalExpr>>,
    output_schema: SchemaRef,
    output_classes: Vec<Class>,
    output_keys: Vec<(String, usize)>,
    text: String,
}

fn finalise_plan(
    logical: &Logical,
    key_types: &[DataType],
    classes: &[Class],
    nulled: &NullCounter,
) -> Result<FinalisePlan> {
    // Keys are kept in plain types, which the planner does not know of.
    let fields: Vec<(Option<TableReference>, Arc<Field>)> = logical
        .answers
        .iter()
        .enumerate()
        .map(|(i, (qualifier, field))| {
            let data_type = key_types
                .get(i)
                .cloned()
                .unwrap_or_else(|| plain_type(field.data_type()));
            (qualifier.cloned(), Arc::new(Field::new(field.name(), data_type, true)))
        })
        .collect();
    let answers = DFSchema::new_with_metadata(fields, Default::default())?;
    let scope = Scope::new(answers, sql::session(), nulled.clone());
    let schema = scope.arrow_schema();
    let compile = |expr: &Expr| scope.compile(&sql::coerce(expr.clone(), scope.df_schema())?);

    let having = logical.having.iter().map(compile).collect::<Result<Vec<_>>>()?;
    let outputs = logical
        .outputs
        .iter()
        .map(|(_, e)| compile(e))
        .collect::<Result<Vec<_>>>()?;
    let mut text = String::new();
    for expr in having.iter().chain(&outputs) {
        text.push_str(&canonical(expr, schema, ColumnsBy::Position)?);
        text.push('\n');
    }
    let mut output_fields: Vec<Field> = vec![];
    let mut output_classes = vec![];
    let mut output_keys = vec![];
    for ((name, logical_expr), expr) in logical.outputs.iter().zip(&outputs) {
        if output_fields.iter().any(|f| f.name() == name) {
            return plan_err!("two output columns are named `{name}`; give one an alias");
        }
        debug_assert_eq!(
            plain_type(&logical_expr.get_type(scope.df_schema())?),
            expr.data_type(schema)?
        );
        output_fields.push(Field::new(name, expr.data_type(schema)?, true));
        output_classes.push(class_of(expr, key_types.len(), classes)?);
        if let Some(column) = expr.downcast_ref::<Column>()
            && column.index() < key_types.len()
        {
            output_keys.push((name.clone(), column.index()));
        }
    }
    text.push_str(
        &logical
            .outputs
            .iter()
            .map(|(name, _)| format!("{name:?}\n"))
            .collect::<String>(),
    );
    Ok(FinalisePlan {
        answer_schema: Arc::new(schema.clone()),
        having,
        outputs,
        output_schema: Arc::new(Schema::new(output_fields)),
        output_classes,
        output_keys,
        text,
    })
}

/// An expression is as exact as the least exact aggregate in it.
fn class_of(expr: &Arc<dyn PhysicalExpr>, keys: usize, classes: &[Class]) -> Result<Class> {
    let mut class = Class::Exact;
    expr.apply(|node| {
        if let Some(column) = node.downcast_ref::<Column>()
            && let Some(answer) = column.index().checked_sub(keys)
        {
            class = class.max(classes[answer]);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(class)
}
