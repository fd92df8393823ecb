//! Parses, refuses everything that is not one query, and finds the views it reads.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use anabranch_front::{MAX_DEPTH, MAX_OPERATORS, has_too_many_operators, is_deeper};
use anabranch_view::View;
use datafusion::common::TableReference;
use datafusion::execution::context::SQLOptions;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;

use super::session::{CATALOG, SCHEMA, Scope};
use crate::Error;

/// Reads one statement, whatever it says.
pub(crate) fn parse(sql: &str) -> Result<Statement, Error> {
    if has_too_many_operators(sql, &GenericDialect {}) {
        return Err(too_long(format!(
            "the query has more than {MAX_OPERATORS} operators and keywords"
        )));
    }
    let parsed = DFParserBuilder::new(sql)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(Error::from_query)?;
    match (statements.pop_front(), statements.pop_front()) {
        (Some(statement), None) => Ok(statement),
        _ => Err(Error::Sql {
            message: "send exactly one SELECT".into(),
            hint: None,
        }),
    }
}

fn too_long(message: String) -> Error {
    Error::Sql {
        message,
        hint: Some("write long lists of values with IN, or ask in several queries".into()),
    }
}

/// Names of the views that a query reads.
pub(crate) fn views_of(statement: &Statement, scope: &Scope) -> Result<BTreeSet<String>, Error> {
    if !is_query(statement) {
        return Err(Error::Sql {
            message: format!(
                "only SELECT is answered here, not {}",
                first_words(&statement.to_string())
            ),
            hint: Some("views are declared in views.sql; events are sent to /v1/ingest".into()),
        });
    }
    let mut functions = TableFunctions::default();
    if let Statement::Statement(inner) = statement {
        if is_deeper(inner.as_ref(), MAX_DEPTH) {
            return Err(too_long(format!(
                "the query has expressions of more than {MAX_DEPTH} operators in each other"
            )));
        }
        let _: ControlFlow<()> = inner.visit(&mut functions);
    }
    if let Some(clause) = functions.refused {
        return Err(Error::Sql {
            message: format!("{clause} is not allowed in a query"),
            hint: None,
        });
    }
    let (references, _) = resolve_table_references(statement, true).map_err(Error::from_query)?;
    let mut views = BTreeSet::new();
    for reference in references {
        if functions.names.contains(&reference.table().to_lowercase()) {
            continue;
        }
        views.extend(resolve(&reference, scope)?);
    }
    Ok(views)
}

/// The view that a name means; `None` for a system table.
fn resolve(reference: &TableReference, scope: &Scope) -> Result<Option<String>, Error> {
    let known_catalog = reference.catalog().is_none_or(|catalog| catalog == CATALOG);
    let public = known_catalog && reference.schema().is_none_or(|schema| schema == SCHEMA);
    if public && scope.views.iter().any(|view| view.name() == reference.table()) {
        return Ok(Some(reference.table().to_owned()));
    }
    if known_catalog && scope.has_system_table(reference.schema(), reference.table()) {
        return Ok(None);
    }
    let names = scope.views.iter().map(View::name);
    let hint = anabranch_catalog::did_you_mean(reference.table(), names);
    Err(Error::UnknownView {
        name: reference.to_string(),
        hint,
    })
}

fn is_query(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(inner) => match inner.as_ref() {
            SqlStatement::Query(_) => true,
            SqlStatement::Explain { statement, .. } => matches!(statement.as_ref(), SqlStatement::Query(_)),
            _ => false,
        },
        Statement::Explain(explain) => is_query(&explain.statement),
        _ => false,
    }
}

fn first_words(statement: &str) -> String {
    let mut words = statement.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    words.truncate(words.char_indices().nth(40).map_or(words.len(), |(at, _)| at));
    words
}

/// What no plan may contain.
pub(crate) fn read_only() -> SQLOptions {
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
}

/// Finds table functions, which look like tables but are none, and clauses that write.
#[derive(Default)]
struct TableFunctions {
    names: BTreeSet<String>,
    refused: Option<&'static str>,
}

impl Visitor for TableFunctions {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table {
            name, args: Some(_), ..
        } = factor
            && let Some(ident) = name.0.last().and_then(|part| part.as_ident())
        {
            self.names.insert(ident.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(select) = query.body.as_select()
            && select.into.is_some()
        {
            self.refused = Some("SELECT … INTO");
        }
        if !query.locks.is_empty() {
            self.refused = Some("FOR UPDATE");
        }
        ControlFlow::Continue(())
    }
}
