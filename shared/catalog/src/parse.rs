//! From the text of a `views.sql` to its statements, and from those to a catalog.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::cursor::Cursor;
use crate::diagnostic::lower_first;
use crate::name::Name;
use crate::table::table;
use crate::view::{ParsedView, view};
use crate::{Catalog, Diagnostic, Place, ViewDefinition, did_you_mean, nearest};

/// A `CREATE` statement whose kind and name are known.
struct Statement<'a> {
    place: Place,
    kind: Kind,
    name: Name,
    body: Cursor<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    View,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
        }
    }
}

/// The tokens that mean something.
fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>, Diagnostic> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .map_err(|error| Diagnostic::new(error.location, lower_first(&error.message)))?;
    let means = |token: &TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::EOF);
    Ok(tokens.into_iter().filter(means).collect())
}

/// Where the table or view of this SQL name is declared, or one column of that table.
pub(crate) fn place_of(sql: &str, name: &str, column: Option<&str>) -> Option<Place> {
    let tokens = tokens(sql).ok()?;
    let statements = split(&tokens).into_iter().filter_map(|cursor| header(cursor).ok());
    let mut statement = statements.into_iter().find(|statement| statement.name.sql() == name)?;
    let place = statement.name.place;
    let Some(column) = column else {
        return Some(place);
    };
    let columns = statement.body.list("columns").unwrap_or_default();
    let of_column = |mut item: Cursor<'_>| {
        let name = item.name("a column name").ok()?;
        (name.sql() == column).then_some(name.place)
    };
    Some(columns.into_iter().find_map(of_column).unwrap_or(place))
}

pub(crate) fn parse(sql: &str) -> Result<Catalog, Vec<Diagnostic>> {
    let tokens = tokens(sql).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    let mut statements = Vec::new();
    for cursor in split(&tokens) {
        match header(cursor) {
            Ok(statement) => statements.push(statement),
            Err(problem) => problems.push(problem),
        }
    }
    refuse_twins(&statements, &mut problems);

    let mut catalog = Catalog::default();
    // A table that was refused is not unknown: its views are not blamed for it.
    let mut refused_tables = Vec::new();
    for statement in statements.iter().filter(|statement| statement.kind == Kind::Table) {
        match table(&statement.name, statement.body, &mut problems) {
            Some(source) => drop(catalog.sources.insert(source.name.clone(), Arc::new(source))),
            None => refused_tables.push(statement.name.sql()),
        }
    }
    let view_names: Vec<String> = names(&statements, Kind::View).collect();
    for statement in statements.iter().filter(|statement| statement.kind == Kind::View) {
        let Some(parsed) = view(sql, &statement.name, statement.body, &mut problems) else {
            continue;
        };
        match resolve(&catalog, &refused_tables, &view_names, parsed, statement) {
            Ok(Some(definition)) => drop(catalog.views.insert(definition.name.clone(), Arc::new(definition))),
            Ok(None) => {}
            Err(found) => problems.extend(found),
        }
    }

    if problems.is_empty() {
        return Ok(catalog);
    }
    problems.sort_by_key(|problem| problem.place);
    Err(problems)
}

/// One cursor per statement; empty statements are dropped.
fn split(tokens: &[TokenWithSpan]) -> Vec<Cursor<'_>> {
    tokens
        .split_inclusive(|token| token.token == Token::SemiColon)
        .filter_map(|statement| {
            let (last, rest) = statement.split_last()?;
            let (body, end) = if last.token == Token::SemiColon {
                (rest, last.span.start)
            } else {
                (statement, last.span.end)
            };
            (!body.is_empty()).then(|| Cursor::new(body, end.into()))
        })
        .collect()
}

/// Reads `CREATE TABLE name` or `CREATE MATERIALIZED VIEW name`.
fn header(mut cursor: Cursor<'_>) -> Result<Statement<'_>, Diagnostic> {
    let place = cursor.place();
    let supported = "a file holds CREATE TABLE … WITH (…) and CREATE MATERIALIZED VIEW … AS SELECT … only";
    let Some(first) = cursor.peek_word() else {
        return Err(cursor.expected("a statement").with_hint(supported));
    };
    if !cursor.keywords(&["CREATE"]) {
        let hint = match nearest(&first.value, ["create"]) {
            Some(_) => "did you mean `CREATE`?",
            None => supported,
        };
        let message = format!(
            "`{}` statements are not supported here",
            first.value.to_ascii_uppercase()
        );
        return Err(Diagnostic::new(place, message).with_hint(hint));
    }
    let declarative = "the file is the whole truth at every start: nothing is created twice; leave it out";
    let here = cursor.place();
    if cursor.keywords(&["OR", "REPLACE"]) {
        return Err(Diagnostic::new(here, "`OR REPLACE` is not supported").with_hint(declarative));
    }
    let kind = if cursor.keywords(&["TABLE"]) {
        Kind::Table
    } else if cursor.keywords(&["MATERIALIZED", "VIEW"]) {
        Kind::View
    } else {
        return Err(unknown_kind(&cursor, supported));
    };
    let here = cursor.place();
    if cursor.keywords(&["IF", "NOT", "EXISTS"]) {
        return Err(Diagnostic::new(here, "`IF NOT EXISTS` is not supported").with_hint(declarative));
    }
    let name = cursor.name(&format!("the name of a {}", kind.word()))?;
    name.check_relation(kind.word())?;
    if cursor.peek() == Some(&Token::Period) {
        return Err(
            Diagnostic::new(name.place, format!("the name of a {} has one part", kind.word()))
                .with_hint("there are no schemas: leave out what comes before the dot"),
        );
    }
    Ok(Statement {
        place,
        kind,
        name,
        body: cursor,
    })
}

fn unknown_kind(cursor: &Cursor<'_>, supported: &str) -> Diagnostic {
    let word = cursor.peek_word().map_or("", |word| word.value.as_str());
    let hint = match word.to_ascii_uppercase().as_str() {
        "VIEW" => "write CREATE MATERIALIZED VIEW: every view is kept fresh".to_owned(),
        "EXTERNAL" | "TEMPORARY" | "TEMP" | "UNLOGGED" | "SOURCE" | "STREAM" => {
            "write CREATE TABLE … WITH (connector = 'kafka')".to_owned()
        }
        "SINK" => "results are read over HTTP and SQL; there are no sinks".to_owned(),
        _ => match nearest(word, ["TABLE", "MATERIALIZED"]) {
            Some(near) => format!("did you mean `{near}`?"),
            None => supported.to_owned(),
        },
    };
    cursor.expected("TABLE or MATERIALIZED VIEW").with_hint(hint)
}

/// Tables and views share one namespace, and their names become paths: letters that differ only in case do not suffice.
fn refuse_twins(statements: &[Statement<'_>], problems: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<String, &Statement<'_>> = BTreeMap::new();
    for statement in statements {
        let name = statement.name.sql();
        let Some(first) = seen.get(&name.to_lowercase()) else {
            seen.insert(name.to_lowercase(), statement);
            continue;
        };
        let message = if first.name.sql() == name {
            format!(
                "`{name}` is already a {}, declared at line {}",
                first.kind.word(),
                first.place.line
            )
        } else {
            format!(
                "`{name}` differs only in case from {} `{}`",
                first.kind.word(),
                first.name.sql()
            )
        };
        problems.push(
            Diagnostic::new(statement.name.place, message)
                .with_hint("tables and views share one set of names; rename one"),
        );
    }
}

fn names(statements: &[Statement<'_>], kind: Kind) -> impl Iterator<Item = String> {
    statements
        .iter()
        .filter(move |statement| statement.kind == kind)
        .map(|statement| statement.name.sql())
}

/// Finds the view's source. `Ok(None)` when its table is broken, which has been said already.
fn resolve(
    catalog: &Catalog,
    refused_tables: &[String],
    view_names: &[String],
    parsed: ParsedView,
    statement: &Statement<'_>,
) -> Result<Option<ViewDefinition>, Vec<Diagnostic>> {
    let table = parsed.table.sql();
    let Some(source) = catalog.sources.get(&table) else {
        if refused_tables.contains(&table) {
            return Ok(None);
        }
        if view_names.contains(&table) {
            return Err(vec![
                Diagnostic::new(
                    parsed.table.place,
                    format!("`{table}` is a view; a view reads a source"),
                )
                .with_hint("read its table instead; views over views are not supported"),
            ]);
        }
        let known = catalog.sources.keys().chain(refused_tables).map(String::as_str);
        return Err(vec![Diagnostic {
            place: parsed.table.place,
            message: format!("unknown source `{table}`"),
            hint: did_you_mean(&table, known).or_else(|| Some("declare it with CREATE TABLE".to_owned())),
        }]);
    };
    let ambiguous = parsed.ambiguous_keys(source);
    if !ambiguous.is_empty() {
        return Err(ambiguous);
    }
    Ok(Some(ViewDefinition {
        name: statement.name.sql(),
        source: Arc::clone(source),
        query: parsed.query,
        ast: parsed.ast,
        place: statement.place,
    }))
}

#[cfg(test)]
mod tests;
