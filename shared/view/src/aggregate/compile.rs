use std::sync::Arc;

use arrow::array::Array;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Column as LogicalColumn, Result, plan_err};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, NullTreatment, Sort};
use datafusion::logical_expr::{AggregateUDF, Cast, Expr, ExprSchemable};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};

use anabranch_model::columns;

use super::Class;
use super::answer::Answer;
use super::approx_distinct::{SKETCH_VERSION, is_sketched};
use super::slot::{Slot, SlotKind, evaluate, wide_sum_type};
use crate::expr::{ColumnsBy, Measurable, NullCounter, Scope, canonical, plain_type};

/// What the aggregates of a view read of each row, every distinct expression once.
#[derive(Default)]
pub(crate) struct Inputs {
    pub exprs: Vec<Input>,
}

/// One column of [`crate::Prepared::inputs`].
pub(crate) struct Input {
    pub expr: Arc<dyn PhysicalExpr>,
    /// A FILTER predicate: what is not true counts as false.
    pub predicate: bool,
}

impl Inputs {
    fn add(&mut self, expr: Arc<dyn PhysicalExpr>, predicate: bool) -> usize {
        let known = self
            .exprs
            .iter()
            .position(|i| i.predicate == predicate && i.expr.eq(&expr));
        known.unwrap_or_else(|| {
            self.exprs.push(Input { expr, predicate });
            self.exprs.len() - 1
        })
    }
}

/// Gathers the slots of a view's aggregate calls, every distinct one once.
pub(crate) struct Slots<'a> {
    pub slots: Vec<Slot>,
    pub inputs: Inputs,
    scope: &'a Scope<'a>,
    table: &'a str,
    event_time: Option<&'a str>,
    nulled: NullCounter,
}

/// An argument: where it is evaluated and what it is.
#[derive(Clone)]
struct Arg {
    input: usize,
    data_type: DataType,
    text: String,
}

impl<'a> Slots<'a> {
    pub(crate) fn new(scope: &'a Scope<'a>, table: &'a str, event_time: Option<&'a str>, nulled: NullCounter) -> Self {
        Self {
            slots: vec![],
            inputs: Inputs::default(),
            scope,
            table,
            event_time,
            nulled,
        }
    }

    /// [`Slots::add`], and tries out what it added: accumulators refuse some of their arguments only when they are made.
    pub(crate) fn add_rehearsed(&mut self, call: &Expr) -> Result<(Answer, Class)> {
        let (answer, class) = self.add(call)?;
        let mut results = vec![];
        for slot in &self.slots {
            let state = slot.empty_group()?;
            let kept: Vec<&DataType> = state.iter().map(|column| column.data_type()).collect();
            let fields = slot.state_fields(0)?;
            if kept != fields.iter().map(Field::data_type).collect::<Vec<_>>() {
                return plan_err!("{} keeps {kept:?} where it declares {fields:?}", slot.label);
            }
            results.push(evaluate(slot, &state, &[0])?);
        }
        let planned = plain_type(&call.get_type(self.scope.df_schema())?);
        let computed = answer.compute(&results)?;
        if *computed.data_type() != planned {
            return plan_err!("{call} gives {} where {planned} was planned", computed.data_type());
        }
        Ok((answer, class))
    }

    /// Compiles one aggregate call over events: adds what it needs, and says how it is answered.
    pub(crate) fn add(&mut self, call: &Expr) -> Result<(Answer, Class)> {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = call else {
            return plan_err!("{call} is not an aggregate");
        };
        let AggregateFunctionParams {
            args,
            distinct,
            filter,
            order_by,
            null_treatment,
        } = params;
        let filter = match filter {
            Some(filter) => Some(self.filter(filter)?),
            None => None,
        };
        let name = func.name();
        if name == "count" && !distinct && args.iter().all(is_constant) {
            return Ok((
                Answer::State {
                    slot: self.count_rows(filter),
                },
                Class::Exact,
            ));
        }
        let distinct = *distinct && !matches!(name, "min" | "max");
        if distinct {
            let [arg] = args.as_slice() else {
                return plan_err!("{name}(DISTINCT …) takes one argument");
            };
            return self.distinct(func, arg, filter);
        }
        if name == "approx_distinct" && args[0].get_type(self.scope.df_schema())?.is_floating() {
            return plan_err!("approx_distinct of floats is not supported; cast them to DECIMAL or TEXT");
        }
        match name {
            "sum" => {
                let arg = self.exact_arg(&args[0])?;
                let planned = args[0].get_type(self.scope.df_schema())?;
                if let Some(answer) = self.exact_sum(&arg, &planned, filter.clone())? {
                    return Ok((answer, Class::Exact));
                }
            }
            "avg" => {
                let arg = self.exact_arg(&args[0])?;
                if wide_sum_type(&arg.data_type).is_some() {
                    return Ok((
                        self.mean(&arg, args[0].get_type(self.scope.df_schema())?, filter)?,
                        Class::Float,
                    ));
                }
            }
            "min" | "max" => {
                let arg = self.arg(&args[0])?;
                if arg.data_type.is_floating() {
                    let greatest = name == "max";
                    let kind = SlotKind::FloatExtreme {
                        data_type: arg.data_type.clone(),
                        greatest,
                    };
                    return Ok((
                        Answer::State {
                            slot: self.slot(name, kind, &[arg], filter),
                        },
                        Class::Exact,
                    ));
                }
            }
            "approx_distinct" => {
                let arg = self.arg(&args[0])?;
                if is_sketched(&arg.data_type) {
                    let slot = self.slot(name, SlotKind::ApproxDistinct, &[arg], filter);
                    let data_type = DataType::UInt64;
                    return Ok((Answer::Slot { slot, data_type }, Class::Exact));
                }
            }
            _ => {}
        }
        let ignore_nulls = *null_treatment == Some(NullTreatment::IgnoreNulls);
        let order_by = self.order(name, order_by)?;
        self.function(func, args, &order_by, ignore_nulls, filter)
    }

    fn filter(&mut self, predicate: &Expr) -> Result<(usize, String)> {
        let expr = self.scope.compile(predicate)?;
        let text = canonical(&expr, self.scope.arrow_schema(), ColumnsBy::Name)?;
        Ok((self.inputs.add(expr, true), text))
    }

    fn arg(&mut self, expr: &Expr) -> Result<Arg> {
        let expr = self.scope.compile(expr)?;
        self.input(expr)
    }

    fn input(&mut self, expr: Arc<dyn PhysicalExpr>) -> Result<Arg> {
        let data_type = expr.data_type(self.scope.arrow_schema())?;
        let text = canonical(&expr, self.scope.arrow_schema(), ColumnsBy::Name)?;
        Ok(Arg {
            input: self.inputs.add(expr, false),
            data_type,
            text,
        })
    }

    /// An argument of sum or avg before the planner's cast to a float: integers as BIGINT, spans of time as microseconds.
    fn exact_arg(&mut self, expr: &Expr) -> Result<Arg> {
        let schema = self.scope.df_schema();
        let inner = match expr {
            Expr::Cast(Cast { expr: inner, field }) if field.data_type().is_floating() => {
                if inner.get_type(schema)?.is_integer() {
                    inner.as_ref()
                } else {
                    expr
                }
            }
            _ => expr,
        };
        let data_type = inner.get_type(schema)?;
        match data_type {
            DataType::Int64 | DataType::UInt64 => self.arg(inner),
            DataType::Duration(_) => self.arg(&inner.clone().cast_to(&DataType::Int64, schema)?),
            ref narrow if narrow.is_integer() => self.arg(&inner.clone().cast_to(&DataType::Int64, schema)?),
            DataType::Interval(_) => plan_err!("intervals of varying length cannot be summed; subtract timestamps"),
            _ => self.arg(inner),
        }
    }

    fn slot(&mut self, label: &str, kind: SlotKind, args: &[Arg], filter: Option<(usize, String)>) -> usize {
        let texts: Vec<&str> = args.iter().map(|a| a.text.as_str()).collect();
        self.slot_with_text(label, kind, args, filter, &texts.join(", "))
    }

    fn slot_with_text(
        &mut self,
        label: &str,
        kind: SlotKind,
        args: &[Arg],
        filter: Option<(usize, String)>,
        arguments: &str,
    ) -> usize {
        let what = match &kind {
            SlotKind::CountRows => "count rows".to_string(),
            SlotKind::WideSum(_) => "wide sum".to_string(),
            SlotKind::FloatExtreme { .. } => format!("float {label}"),
            SlotKind::Distinct(_) => "distinct values".to_string(),
            SlotKind::ApproxDistinct => format!("approximate distinct count {SKETCH_VERSION}"),
            SlotKind::Function(function) => format!("datafusion {}", function.fun().name()),
        };
        let filter_text = filter
            .as_ref()
            .map_or(String::new(), |(_, text)| format!(" filter {text}"));
        let text = format!("{what}({arguments}){filter_text}");
        if let Some(known) = self.slots.iter().position(|s| s.text == text) {
            return known;
        }
        let filter = filter.map(|(input, _)| input);
        let arg_types = args.iter().map(|a| a.data_type.clone()).collect();
        let args = args.iter().map(|a| a.input).collect();
        self.slots.push(Slot {
            label: label.into(),
            kind,
            args,
            arg_types,
            filter,
            text,
        });
        self.slots.len() - 1
    }

    fn count_rows(&mut self, filter: Option<(usize, String)>) -> usize {
        self.slot("count", SlotKind::CountRows, &[], filter)
    }

    /// The exact sum of a type that has one. `planned` is the type of the argument as it is written.
    fn exact_sum(&mut self, arg: &Arg, planned: &DataType, filter: Option<(usize, String)>) -> Result<Option<Answer>> {
        let to = match &arg.data_type {
            DataType::Int64 if matches!(planned, DataType::Duration(_)) => planned.clone(),
            DataType::Int64 | DataType::UInt64 => arg.data_type.clone(),
            DataType::Decimal128(precision, scale) => DataType::Decimal128(38.min(precision + 10), *scale),
            DataType::Decimal256(precision, scale) => DataType::Decimal256(76.min(precision + 10), *scale),
            _ => return Ok(None),
        };
        if wide_sum_type(&arg.data_type).is_none() {
            return plan_err!(
                "the sum of {} could overflow; cast it to a narrower DECIMAL",
                arg.data_type
            );
        }
        let kind = SlotKind::WideSum(arg.data_type.clone());
        let slot = self.slot("sum", kind, std::slice::from_ref(arg), filter);
        Ok(Some(Answer::Sum {
            slot,
            to,
            nulled: self.nulled.clone(),
        }))
    }

    fn mean(&mut self, arg: &Arg, planned: DataType, filter: Option<(usize, String)>) -> Result<Answer> {
        let to = match &arg.data_type {
            DataType::Decimal128(precision, scale) => DataType::Decimal128(38.min(precision + 4), 38.min(scale + 4)),
            DataType::Decimal256(precision, scale) => DataType::Decimal256(76.min(precision + 4), 76.min(scale + 4)),
            _ if matches!(planned, DataType::Duration(_)) => planned,
            _ => DataType::Float64,
        };
        let kind = SlotKind::WideSum(arg.data_type.clone());
        let sum = self.slot("sum", kind, std::slice::from_ref(arg), filter.clone());
        let count = self
            .datafusion_slot(&count_udaf(), std::slice::from_ref(arg), &[], &[], false, filter)?
            .0;
        Ok(Answer::Mean {
            sum,
            count,
            to,
            nulled: self.nulled.clone(),
        })
    }

    /// `f(DISTINCT x)` keeps the distinct values; the answer folds them into an inner aggregation.
    fn distinct(
        &mut self,
        func: &Arc<AggregateUDF>,
        arg: &Expr,
        filter: Option<(usize, String)>,
    ) -> Result<(Answer, Class)> {
        let arg = if func.name() == "count" {
            self.arg(arg)?
        } else {
            self.exact_arg(arg)?
        };
        if !crate::keys::can_be_key(&arg.data_type) {
            return plan_err!("DISTINCT over {} is not supported", arg.data_type);
        }
        let kind = SlotKind::Distinct(arg.data_type.clone());
        let slot = self.slot("distinct", kind, std::slice::from_ref(&arg), filter);
        if func.name() == "count" {
            return Ok((Answer::DistinctCount { slot }, Class::Exact));
        }
        let value = Arg {
            input: 0,
            data_type: arg.data_type.clone(),
            text: "value".into(),
        };
        let mut inner = Slots::new(self.scope, self.table, None, self.nulled.clone());
        let (answer, class) = match (func.name(), wide_sum_type(&value.data_type)) {
            ("sum", Some(_)) => match inner.exact_sum(&value, &value.data_type, None)? {
                Some(answer) => (answer, Class::Exact),
                None => return plan_err!("sum(DISTINCT) over {} is not supported", value.data_type),
            },
            ("avg", Some(_)) => {
                let planned = value.data_type.clone();
                (inner.mean(&value, planned, None)?, Class::Float)
            }
            _ => {
                let (slot, data_type) =
                    inner.datafusion_slot(func, std::slice::from_ref(&value), &[], &[], false, None)?;
                (Answer::Slot { slot, data_type }, Class::Float)
            }
        };
        Ok((
            Answer::Distinct {
                slot,
                inner: inner.slots,
                answer: Box::new(answer),
            },
            class,
        ))
    }

    /// The order of first_value and last_value: as written, else event time; then partition and offset, so that there
    /// are no ties.
    fn order(&self, name: &str, written: &[Sort]) -> Result<Vec<Sort>> {
        if !matches!(name, "first_value" | "last_value") {
            return Ok(written.to_vec());
        }
        let column = |name: &str| Expr::Column(LogicalColumn::new(Some(self.table), name));
        let mut order = written.to_vec();
        if order.is_empty() {
            let Some(event_time) = self.event_time else {
                return plan_err!("{name} needs an ORDER BY: `{}` declares no event_time", self.table);
            };
            // An event without a time is neither first nor last.
            order.push(Sort::new(column(event_time), true, name == "last_value"));
        }
        order.push(Sort::new(column(columns::PARTITION), true, false));
        order.push(Sort::new(column(columns::OFFSET), true, false));
        Ok(order)
    }

    fn function(
        &mut self,
        func: &Arc<AggregateUDF>,
        args: &[Expr],
        order_by: &[Sort],
        ignore_nulls: bool,
        filter: Option<(usize, String)>,
    ) -> Result<(Answer, Class)> {
        let name = func.name();
        // A percentile is a parameter: the accumulator reads it once, not from every row.
        let within_group = name.starts_with("approx_percentile");
        let parameters = match name {
            "approx_percentile_cont" => 1,
            "approx_percentile_cont_with_weight" => 2,
            _ => args.len(),
        };
        let constants = args[parameters..]
            .iter()
            .map(|a| self.scope.compile(a))
            .collect::<Result<Vec<_>>>()?;
        let mut read = vec![];
        for (index, arg) in args[..parameters].iter().enumerate() {
            let expr = self.scope.compile(arg)?;
            read.push(if class_of(name) == Class::Sketch {
                self.input(Arc::new(Measurable::new(expr, index == 1, self.nulled.clone())))?
            } else {
                self.input(expr)?
            });
        }
        let mut order = Vec::with_capacity(order_by.len());
        // WITHIN GROUP (ORDER BY x) repeats the argument; its direction alone matters.
        for sort in order_by {
            let options = SortOptions {
                descending: !sort.asc,
                nulls_first: sort.nulls_first,
            };
            let by = if within_group {
                read[0].clone()
            } else {
                self.arg(&sort.expr)?
            };
            order.push((by, options));
        }
        let (slot, data_type) = self.datafusion_slot(func, &read, &constants, &order, ignore_nulls, filter)?;
        Ok((Answer::Slot { slot, data_type }, class_of(name)))
    }

    /// A slot that DataFusion accumulates, and the type of its result.
    fn datafusion_slot(
        &mut self,
        func: &Arc<AggregateUDF>,
        args: &[Arg],
        constants: &[Arc<dyn PhysicalExpr>],
        order: &[(Arg, SortOptions)],
        ignore_nulls: bool,
        filter: Option<(usize, String)>,
    ) -> Result<(usize, DataType)> {
        let name = func.name();
        let read: Vec<Arg> = args.iter().chain(order.iter().map(|(arg, _)| arg)).cloned().collect();
        let fields: Vec<Field> = read
            .iter()
            .enumerate()
            .map(|(i, a)| Field::new(format!("a{i}"), a.data_type.clone(), true))
            .collect();
        let column = |i: usize| Arc::new(Column::new(&format!("a{i}"), i)) as Arc<dyn PhysicalExpr>;
        let mut parameters: Vec<Arc<dyn PhysicalExpr>> = (0..args.len()).map(column).collect();
        parameters.extend(constants.iter().cloned());
        let sorts = order
            .iter()
            .enumerate()
            .map(|(i, (_, options))| PhysicalSortExpr::new(column(args.len() + i), *options));
        let function = AggregateExprBuilder::new(Arc::clone(func), parameters)
            .schema(Arc::new(Schema::new(fields)))
            .order_by(sorts.collect())
            .with_ignore_nulls(ignore_nulls)
            .alias(name)
            .build()?;
        let data_type = function.field().data_type().clone();
        let constants = constants
            .iter()
            .map(|c| format!("{:?}", c.downcast_ref::<Literal>().map(Literal::value)));
        let text: Vec<String> = read
            .iter()
            .map(|a| a.text.clone())
            .chain(constants)
            .chain(
                order
                    .iter()
                    .map(|(_, o)| format!("descending {} nulls_first {}", o.descending, o.nulls_first)),
            )
            .chain(ignore_nulls.then(|| "ignore nulls".to_string()))
            .collect();
        // WITHIN GROUP of a percentile is its argument again and not read a second time.
        let read = if name.starts_with("approx_percentile") {
            args.to_vec()
        } else {
            read
        };
        let kind = SlotKind::Function(Box::new(function));
        Ok((
            self.slot_with_text(name, kind, &read, filter, &text.join(", ")),
            data_type,
        ))
    }
}

fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => !value.is_null(),
        Expr::Cast(Cast { expr, .. }) => is_constant(expr),
        _ => false,
    }
}

pub(super) fn class_of(function: &str) -> Class {
    match function {
        "count" | "min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor" | "first_value"
        | "last_value" | "approx_distinct" | "regr_count" => Class::Exact,
        "approx_median" | "approx_percentile_cont" | "approx_percentile_cont_with_weight" => Class::Sketch,
        _ => Class::Float,
    }
}
