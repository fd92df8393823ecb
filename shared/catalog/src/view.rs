//! `CREATE MATERIALIZED VIEW name AS SELECT …`: reads the SELECT and refuses what no view can ever hold.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Distinct, Expr, Function, GroupByExpr, Ident, ObjectName, Query, Select, SelectFlavor, SelectItem,
    SetExpr, Spanned, Subscript, TableFactor, TableWithJoins, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use crate::cursor::Cursor;
use crate::diagnostic::lower_first;
use crate::name::Name;
use crate::{Diagnostic, Place, Source, fold_identifier};

const AT_QUERY_TIME: &str = "do it when you query the view";
const COMBINE_AT_QUERY_TIME: &str = "write one view per table and combine them when you query";

/// A view whose SELECT is sound but whose source is not looked up yet.
pub(crate) struct ParsedView {
    pub table: Name,
    pub query: String,
    pub ast: Box<Query>,
}

/// Reads a view whose name was already consumed. `None` when something was wrong; what is in `problems`.
pub(crate) fn view(
    sql: &str,
    name: &Name,
    mut cursor: Cursor<'_>,
    problems: &mut Vec<Diagnostic>,
) -> Option<ParsedView> {
    let tokens = match select_tokens(name, &mut cursor) {
        Ok(tokens) => tokens,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let ast = match parse_query(tokens, cursor.place_after()) {
        Ok(ast) => ast,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let mut check = Check {
        tokens,
        start: cursor.place(),
        problems: Vec::new(),
    };
    let table = check.query(&ast);
    let sound = check.problems.is_empty();
    problems.append(&mut check.problems);
    match table {
        Some(table) if sound => Some(ParsedView {
            table,
            query: text(sql, tokens),
            ast,
        }),
        _ => None,
    }
}

/// Consumes what stands between the view's name and its SELECT.
fn select_tokens<'a>(name: &Name, cursor: &mut Cursor<'a>) -> Result<&'a [TokenWithSpan], Diagnostic> {
    if cursor.peek() == Some(&Token::LParen) {
        return Err(Diagnostic::new(cursor.place(), "a view takes no list of column names")
            .with_hint("name the columns in the SELECT: `count(*) AS edits`"));
    }
    if cursor.peek_keyword("WITH") {
        return Err(
            Diagnostic::new(cursor.place(), format!("view `{}` takes no options", name.sql()))
                .with_hint("options belong to the table: CREATE TABLE … WITH (…)"),
        );
    }
    if !cursor.keywords(&["AS"]) {
        return Err(cursor.expected("`AS SELECT …`"));
    }
    if !["SELECT", "WITH", "FROM", "VALUES", "TABLE"]
        .iter()
        .any(|word| cursor.peek_keyword(word))
    {
        let problem = cursor.expected("SELECT");
        return Err(match cursor.peek() {
            Some(Token::LParen) => problem.with_hint("leave out the parentheses around the SELECT"),
            _ => problem,
        });
    }
    Ok(cursor.rest())
}

fn parse_query(tokens: &[TokenWithSpan], end: Place) -> Result<Box<Query>, Diagnostic> {
    let mut parser = Parser::new(&GenericDialect {}).with_tokens_with_locations(tokens.to_vec());
    let mut query = parser
        .parse_query()
        .map_err(|error| parser_problem(&error, tokens, end))?;
    let _ = VisitMut::visit(&mut query, &mut FieldsBehindSubscripts);
    let next = parser.peek_token();
    if next.token != Token::EOF {
        return Err(Diagnostic::new(
            next.span,
            format!("expected the end of the statement, found `{}`", next.token),
        )
        .with_hint("statements are separated by `;`"));
    }
    Ok(query)
}

/// `items[1].name` as the planner takes it: `items[1]['name']`.
struct FieldsBehindSubscripts;

impl VisitorMut for FieldsBehindSubscripts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundFieldAccess { access_chain, .. } = expr {
            for access in access_chain {
                if let AccessExpr::Dot(Expr::Identifier(name)) = access {
                    let field = Value::SingleQuotedString(fold_identifier(name)).with_span(name.span);
                    *access = AccessExpr::Subscript(Subscript::Index {
                        index: Expr::Value(field),
                    });
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// sqlparser puts the place at the end of its message.
fn parser_problem(error: &ParserError, tokens: &[TokenWithSpan], end: Place) -> Diagnostic {
    let message = match error {
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => message.as_str(),
        ParserError::RecursionLimitExceeded => {
            let place = tokens.first().map_or(end, |token| token.span.into());
            return Diagnostic::new(place, "the SELECT nests too deeply");
        }
    };
    let (message, place) = match message.rsplit_once(" at Line: ") {
        Some((message, place)) => (message, parse_place(place)),
        None => (message, None),
    };
    let message = lower_first(message).replacen("found: EOF", "found the end", 1);
    Diagnostic::new(place.unwrap_or(end), message)
}

fn parse_place(text: &str) -> Option<Place> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Place {
        line: line.parse().ok()?,
        column: column.parse().ok()?,
    })
}

/// The text that `tokens` were read from.
fn text(sql: &str, tokens: &[TokenWithSpan]) -> String {
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
        return String::new();
    };
    let (start, end) = (Place::from(first.span), Place::from(last.span.end));
    sql[byte_offset(sql, start)..byte_offset(sql, end)].to_owned()
}

/// Where `place` is in `sql`; its end when it lies beyond.
fn byte_offset(sql: &str, place: Place) -> usize {
    let (mut line, mut column) = (1, 1);
    for (offset, c) in sql.char_indices() {
        if line == place.line && column >= place.column {
            return offset;
        }
        if c == '\n' {
            line += 1;
            column = 1;
        } else {
            column += 1;
        }
    }
    sql.len()
}

/// Collects what is refused in one view's query.
struct Check<'a> {
    tokens: &'a [TokenWithSpan],
    start: Place,
    problems: Vec<Diagnostic>,
}

impl Check<'_> {
    /// Checks the whole query; the table it reads, if that is clear.
    fn query(&mut self, query: &Query) -> Option<Name> {
        if query.with.is_some() {
            self.refuse(
                "WITH",
                "WITH queries are not supported in a view",
                "write the SELECT directly over the table",
            );
            return None;
        }
        let select = match query.body.as_ref() {
            SetExpr::Select(select) => select,
            SetExpr::SetOperation { op, .. } => {
                let word = op.to_string();
                self.refuse(
                    &word,
                    &format!("{word} is not supported in a view"),
                    COMBINE_AT_QUERY_TIME,
                );
                return None;
            }
            _ => {
                let problem = Diagnostic::new(self.start, "a view is one SELECT over one table");
                self.problems
                    .push(problem.with_hint("write SELECT … FROM table GROUP BY …"));
                return None;
            }
        };
        self.tail(query);
        self.select(select);
        let table = self.from(&select.from);
        let mut nested = Nested {
            depth: 0,
            problems: &mut self.problems,
        };
        let _ = query.visit(&mut nested);
        table
    }

    /// What follows the SELECT itself.
    fn tail(&mut self, query: &Query) {
        if query.order_by.is_some() {
            self.refuse(
                "ORDER",
                "ORDER BY is not supported in a view: its rows have no order",
                AT_QUERY_TIME,
            );
        }
        if query.limit_clause.is_some() {
            let word = if self.find("LIMIT").is_some() {
                "LIMIT"
            } else {
                "OFFSET"
            };
            self.refuse(
                word,
                &format!("{word} is not supported in a view: a view keeps every group"),
                AT_QUERY_TIME,
            );
        }
        if query.fetch.is_some() {
            self.refuse(
                "FETCH",
                "FETCH is not supported in a view: a view keeps every group",
                AT_QUERY_TIME,
            );
        }
        let leave_out = "leave it out";
        if !query.locks.is_empty() || query.for_clause.is_some() {
            self.refuse("FOR", "FOR is not supported in a view", leave_out);
        }
        if query.settings.is_some() {
            self.refuse("SETTINGS", "SETTINGS is not supported in a view", leave_out);
        }
        if query.format_clause.is_some() {
            self.refuse("FORMAT", "FORMAT is not supported in a view", leave_out);
        }
        if !query.pipe_operators.is_empty() {
            self.problems.push(Diagnostic::new(
                self.start,
                "pipe operators are not supported in a view",
            ));
        }
    }

    fn select(&mut self, select: &Select) {
        match &select.distinct {
            Some(Distinct::Distinct | Distinct::On(_)) => {
                self.refuse(
                    "DISTINCT",
                    "DISTINCT is not supported in a view",
                    "GROUP BY the columns instead",
                );
            }
            Some(Distinct::All) | None => {}
        }
        let windows = "window functions look at neighbouring rows, which partial state does not keep";
        let clauses = [
            ("TOP", select.top.is_some(), AT_QUERY_TIME),
            (
                "INTO",
                select.into.is_some(),
                "the view's name already says where it goes",
            ),
            (
                "LATERAL",
                !select.lateral_views.is_empty(),
                "a view reads one row per event",
            ),
            ("PREWHERE", select.prewhere.is_some(), "write WHERE"),
            (
                "CONNECT",
                !select.connect_by.is_empty(),
                "a view reads one row per event",
            ),
            ("CLUSTER", !select.cluster_by.is_empty(), AT_QUERY_TIME),
            ("DISTRIBUTE", !select.distribute_by.is_empty(), AT_QUERY_TIME),
            ("SORT", !select.sort_by.is_empty(), AT_QUERY_TIME),
            ("WINDOW", !select.named_window.is_empty(), windows),
            ("QUALIFY", select.qualify.is_some(), windows),
        ];
        for (word, present, hint) in clauses {
            if present {
                self.refuse(word, &format!("{word} is not supported in a view"), hint);
            }
        }
        if select.value_table_mode.is_some() || select.exclude.is_some() || select.flavor != SelectFlavor::Standard {
            let problem = Diagnostic::new(self.start, "this form of SELECT is not supported in a view");
            self.problems.push(problem.with_hint("write SELECT columns FROM table"));
        }
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = &select.group_by;
        if !modifiers.is_empty() {
            self.grouping_sets(self.place_of("GROUP"));
        }
        if let GroupByExpr::Expressions(keys, _) = &select.group_by {
            for key in keys {
                if matches!(key, Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_)) {
                    let place = ["ROLLUP", "CUBE", "GROUPING"].iter().find_map(|word| self.find(word));
                    self.grouping_sets(place.unwrap_or_else(|| self.place_of("GROUP")));
                    break;
                }
            }
        }
    }

    fn grouping_sets(&mut self, place: Place) {
        self.problems.push(
            Diagnostic::new(place, "grouping sets are not supported in a view")
                .with_hint("write one view per grouping, or add up the finer view when you query"),
        );
    }

    /// The one table.
    fn from(&mut self, from: &[TableWithJoins]) -> Option<Name> {
        let Some(first) = from.first() else {
            let problem = Diagnostic::new(self.start, "the SELECT has no FROM");
            self.problems.push(problem.with_hint("a view reads one table"));
            return None;
        };
        if let Some(second) = from.get(1) {
            let place = place_or(second.relation.span(), self.place_of("FROM"));
            self.problems
                .push(Diagnostic::new(place, "a view reads exactly one table").with_hint(COMBINE_AT_QUERY_TIME));
        }
        if !first.joins.is_empty() {
            self.refuse("JOIN", "JOIN is not supported in a view", COMBINE_AT_QUERY_TIME);
        }
        let TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } = &first.relation
        else {
            // A subquery is refused where it stands.
            if !matches!(first.relation, TableFactor::Derived { .. }) {
                let place = place_or(first.relation.span(), self.place_of("FROM"));
                self.problems
                    .push(Diagnostic::new(place, "a view reads one table, by its name"));
            }
            return None;
        };
        let place = place_or(name.span(), self.place_of("FROM"));
        let plain = args.is_none()
            && with_hints.is_empty()
            && version.is_none()
            && !with_ordinality
            && partitions.is_empty()
            && json_path.is_none()
            && sample.is_none()
            && index_hints.is_empty()
            && alias
                .as_ref()
                .is_none_or(|alias| alias.columns.is_empty() && alias.at.is_none());
        if !plain {
            let hint = "tumble(…) and hop(…) are written in SELECT or GROUP BY, samples as a WHERE";
            self.problems
                .push(Diagnostic::new(place, "a view reads one table, by its name and an alias only").with_hint(hint));
            return None;
        }
        match single_part(name) {
            Some(ident) => Some(Name {
                ident: ident.clone(),
                place,
            }),
            None => {
                let problem = Diagnostic::new(place, format!("unknown source `{name}`: a name has one part"));
                self.problems
                    .push(problem.with_hint("there are no schemas: leave out what comes before the dot"));
                None
            }
        }
    }

    fn refuse(&mut self, keyword: &str, message: &str, hint: &str) {
        self.problems
            .push(Diagnostic::new(self.place_of(keyword), message).with_hint(hint));
    }

    fn place_of(&self, keyword: &str) -> Place {
        self.find(keyword).unwrap_or(self.start)
    }

    /// The first unquoted `keyword` outside parentheses; clauses have no spans of their own in the syntax tree.
    fn find(&self, keyword: &str) -> Option<Place> {
        let mut depth = 0_usize;
        for token in self.tokens {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Word(word)
                    if depth == 0 && word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword) =>
                {
                    return Some(token.span.into());
                }
                _ => {}
            }
        }
        None
    }
}

fn single_part(name: &ObjectName) -> Option<&Ident> {
    match name.0.as_slice() {
        [part] => part.as_ident(),
        _ => None,
    }
}

fn place_or(span: Span, otherwise: Place) -> Place {
    if span == Span::empty() { otherwise } else { span.into() }
}

/// Finds subqueries and window functions at any depth.
struct Nested<'p> {
    depth: usize,
    problems: &'p mut Vec<Diagnostic>,
}

impl Visitor for Nested<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        // Depth 1 is the view's own query; what is inside a refused subquery is not worth a word of its own.
        if self.depth == 1 {
            self.problems.push(
                Diagnostic::new(query.span(), "subqueries are not supported in a view")
                    .with_hint("filter with WHERE, or make a second view and combine the two when you query"),
            );
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let (Expr::Function(function), 1) = (expr, self.depth) {
            self.problems.extend(refused_function(function));
        }
        ControlFlow::Continue(())
    }
}

fn refused_function(function: &Function) -> Option<Diagnostic> {
    let place = function.name.span();
    if function.over.is_some() {
        return Some(
            Diagnostic::new(
                place,
                format!("window function `{}` is not supported in a view", function.name),
            )
            .with_hint("GROUP BY tumble(…) or hop(…), and use OVER when you query the view"),
        );
    }
    let name = single_part(&function.name).map(fold_identifier)?;
    ["session", "session_window"].contains(&name.as_str()).then(|| {
        Diagnostic::new(place, "session windows are not supported yet")
            .with_hint("use tumble(time, size) or hop(time, slide, size)")
    })
}

impl ParsedView {
    /// GROUP BY names that mean both an input column and another expression of the SELECT list: DataFusion would take the
    /// column, the writer mostly means the expression.
    pub fn ambiguous_keys(&self, source: &Source) -> Vec<Diagnostic> {
        let SetExpr::Select(select) = self.ast.body.as_ref() else {
            return Vec::new();
        };
        let GroupByExpr::Expressions(keys, _) = &select.group_by else {
            return Vec::new();
        };
        keys.iter()
            .filter_map(|key| match key {
                Expr::Identifier(ident) => Some(ident),
                _ => None,
            })
            .filter(|key| source.column(&fold_identifier(key)).is_some())
            .filter_map(|key| {
                let name = fold_identifier(key);
                let alias = select.projection.iter().find_map(|item| match item {
                    SelectItem::ExprWithAlias { expr, alias }
                        if fold_identifier(alias) == name && !is_column(expr, &name) =>
                    {
                        Some(expr)
                    }
                    _ => None,
                })?;
                let column = source.column(&name)?;
                let suffix = if matches!(column.data_type, DataType::Timestamp(..)) {
                    "window"
                } else {
                    "key"
                };
                Some(
                    Diagnostic::new(
                        key.span,
                        format!(
                            "`{name}` is both a column of `{}` and the alias of `{alias}`",
                            source.name
                        ),
                    )
                    .with_hint(format!("give the alias another name, such as `{name}_{suffix}`")),
                )
            })
            .collect()
    }
}

/// Whether `expr` is just the column `name`, with or without its table.
fn is_column(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Identifier(ident) => fold_identifier(ident) == name,
        Expr::CompoundIdentifier(parts) => {
            matches!(parts.as_slice(), [_table, column] if fold_identifier(column) == name)
        }
        Expr::Nested(inner) => is_column(inner, name),
        _ => false,
    }
}
