//! Tells casts apart by name.
//!
//! The planner names an expression without its casts, and refuses two aggregates of one name: `sum(n)` beside
//! `sum(CAST(n AS INT))`, or two keys. So each cast is put into a call of [`NAMED`], which keeps its type in the name, and is
//! taken out of it again once the plan is made.

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{
    CastKind, Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Query, Value, VisitMut, VisitorMut,
};

/// The function that names a cast. Nobody can write it: only plans that are made anew know it.
pub(super) const NAMED: &str = "_named_cast";

/// The query with every cast named; `None` when there is none.
pub(super) fn named(query: &Query) -> Option<Query> {
    let mut query = query.clone();
    let mut namer = Namer { found: false };
    let ControlFlow::Continue(()) = query.visit(&mut namer);
    namer.found.then_some(query)
}

/// The expression as it was written.
pub(super) fn plain(expr: Expr) -> Result<Expr> {
    let plain = expr.transform_up(|node| match node {
        Expr::ScalarFunction(mut call) if call.func.name() == NAMED => Ok(Transformed::yes(call.args.swap_remove(0))),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plain.data)
}

pub(super) fn function() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let signature = Signature::any(2, Volatility::Immutable);
        Arc::new(ScalarUDF::from(NamedCast { signature }))
    });
    Arc::clone(&FUNCTION)
}

struct Namer {
    found: bool,
}

impl VisitorMut for Namer {
    type Break = std::convert::Infallible;

    fn post_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<Self::Break> {
        let SqlExpr::Cast { kind, data_type, .. } = &*expr else {
            return ControlFlow::Continue(());
        };
        let attempt = match kind {
            CastKind::Cast | CastKind::DoubleColon => "",
            CastKind::TryCast | CastKind::SafeCast => "TRY_",
        };
        let name = SqlExpr::value(Value::SingleQuotedString(format!("{attempt}{data_type}")));
        let cast = std::mem::replace(expr, SqlExpr::value(Value::Null));
        let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
        *expr = SqlExpr::Function(Function {
            name: ObjectName::from(vec![Ident::new(NAMED)]),
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args: FunctionArguments::List(FunctionArgumentList {
                duplicate_treatment: None,
                args: vec![argument(cast), argument(name)],
                clauses: Vec::new(),
            }),
            filter: None,
            null_treatment: None,
            over: None,
            within_group: Vec::new(),
        });
        self.found = true;
        ControlFlow::Continue(())
    }
}

/// Its first argument, named by its second.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NamedCast {
    signature: Signature,
}

impl ScalarUDFImpl for NamedCast {
    fn name(&self) -> &str {
        NAMED
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let [cast, Expr::Literal(ScalarValue::Utf8(Some(name)), _)] = args else {
            return internal_err!("a cast is named by a text");
        };
        let (attempt, name) = match name.strip_prefix("TRY_") {
            Some(name) => ("TRY_", name),
            None => ("", name.as_str()),
        };
        Ok(format!("{attempt}CAST({} AS {name})", cast.schema_name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("a named cast is never computed")
    }
}
