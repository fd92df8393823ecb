//! Functions whose results are as large as a number in the query says, rather than as what they are given. Called with
//! arguments of some bytes, each could fill the machine's memory, in one step that no time-out interrupts and that the memory
//! pool of queries does not see. Here they look at their arguments first, and refuse.

mod estimate;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use estimate::Arguments;

/// What one call, for one batch of rows, may make at most, in bytes.
const MOST_BYTES: u128 = 32 << 20;
/// The same for functions of which only a bound is known, one that ordinary texts are far from.
const MOST_BOUND_BYTES: u128 = 512 << 20;
/// Pairs of bytes that one call may compare.
const MOST_STEPS: u128 = 1 << 28;

/// What a function costs, by its arguments.
#[derive(Clone, Copy)]
struct Rule {
    function: &'static str,
    cost: fn(&Arguments) -> u128,
    most: u128,
    /// Of what there are so many.
    unit: &'static str,
}

const fn rule(function: &'static str, cost: fn(&Arguments) -> u128, most: u128) -> Rule {
    Rule {
        function,
        cost,
        most,
        unit: "bytes",
    }
}

const RULES: [Rule; 13] = [
    rule("repeat", estimate::repeat, MOST_BYTES),
    rule("lpad", estimate::pad, MOST_BYTES),
    rule("rpad", estimate::pad, MOST_BYTES),
    rule("replace", estimate::replace, MOST_BOUND_BYTES),
    rule("regexp_replace", estimate::regexp_replace, MOST_BOUND_BYTES),
    rule("range", estimate::range, MOST_BYTES),
    rule("generate_series", estimate::range, MOST_BYTES),
    rule("array_repeat", estimate::array_repeat, MOST_BYTES),
    rule("array_resize", estimate::array_resize, MOST_BYTES),
    rule("array_replace_n", estimate::array_replace, MOST_BOUND_BYTES),
    rule("array_replace_all", estimate::array_replace, MOST_BOUND_BYTES),
    rule("array_to_string", estimate::array_to_string, MOST_BYTES),
    Rule {
        function: "levenshtein",
        cost: estimate::levenshtein,
        most: MOST_STEPS,
        unit: "steps",
    },
];

/// Puts bounds to the functions of a session that need them.
///
/// # Errors
/// When a function cannot be registered.
pub fn bound_functions(session: &mut dyn FunctionRegistry) -> Result<()> {
    for rule in RULES {
        // A session need not have all of them.
        if let Ok(inner) = session.udf(rule.function) {
            session.register_udf(Arc::new(ScalarUDF::new_from_impl(Bounded { inner, rule })))?;
        }
    }
    Ok(())
}

/// A function that looks at its arguments before it is called.
struct Bounded {
    inner: Arc<ScalarUDF>,
    rule: Rule,
}

impl std::fmt::Debug for Bounded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bounded").field(&self.inner).finish()
    }
}

// The rule follows from the function.
impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arg_types)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.inner().schema_name(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.inner().simplify(args, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.inner().short_circuits()
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.inner().output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.inner().documentation()
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = self.inner.inner().with_updated_config(config)?;
        Some(ScalarUDF::new_from_impl(Self {
            inner: Arc::new(inner),
            rule: self.rule,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Rule { cost, most, unit, .. } = self.rule;
        let arguments = Arguments::new(&args.args)?;
        let cost = cost(&arguments);
        if cost > most {
            return plan_err!(
                "{} would take up to {cost} {unit} here; one call may take {most}",
                self.inner.name()
            );
        }
        self.inner.inner().invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests;
