//! Identifiers: how they fold, and which may be used.

use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem, SetExpr, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::{Diagnostic, Place};

/// The SQL name of an identifier, folded as DataFusion's planner folds it: ASCII lower case unless quoted.
pub fn fold_identifier(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

/// An identifier as it stands in the file.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub ident: Ident,
    pub place: Place,
}

impl Name {
    /// The folded name.
    pub fn sql(&self) -> String {
        fold_identifier(&self.ident)
    }

    /// The spelling, which is the JSON key.
    pub fn written(&self) -> &str {
        &self.ident.value
    }

    /// Checks the name of a table or view: it becomes part of paths and URLs.
    pub fn check_relation(&self, what: &str) -> Result<(), Diagnostic> {
        let name = self.written();
        if name.starts_with('_') {
            return Err(self.reserved(what));
        }
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || name.len() > 128 {
            return Err(Diagnostic::new(self.place, format!("`{name}` cannot name a {what}")).with_hint(
                "use at most 128 ASCII letters, digits and `_`, beginning with a letter: the name becomes part of paths and URLs",
            ));
        }
        Ok(())
    }

    /// Checks the name of a column.
    pub fn check_column(&self) -> Result<(), Diagnostic> {
        if self.written().starts_with('_') {
            return Err(self.reserved("column"));
        }
        self.check_field()
    }

    /// Checks the name of a nested field: anything that Delta tables allow and that a query can refer to.
    pub fn check_field(&self) -> Result<(), Diagnostic> {
        let name = self.written();
        if name.is_empty() {
            return Err(Diagnostic::new(self.place, "a column needs a name"));
        }
        if let Some(bad) = name.chars().find(|c| " ,;{}()=".contains(*c) || c.is_control()) {
            return Err(
                Diagnostic::new(self.place, format!("column name `{name}` contains {bad:?}"))
                    .with_hint("Delta tables allow no spaces, control characters or any of `,;{}()=` in column names"),
            );
        }
        if self.ident.quote_style.is_none() && !reads_as_column(name) {
            return Err(Diagnostic::new(self.place, format!("`{name}` is a reserved word"))
                .with_hint(format!("write \"{name}\", here and in views")));
        }
        Ok(())
    }

    fn reserved(&self, what: &str) -> Diagnostic {
        let name = self.written();
        Diagnostic::new(self.place, format!("{what} name `{name}` begins with `_`"))
            .with_hint("names that begin with `_` are reserved for Anabranch's own columns; choose another name")
    }
}

/// Whether the bare word means a column wherever a view may use it; asks the parser, which alone knows.
fn reads_as_column(word: &str) -> bool {
    let probe = format!("SELECT {word}, {word} + 1, f({word}) FROM t WHERE {word} = 1 GROUP BY {word}");
    let Ok(statements) = Parser::parse_sql(&GenericDialect {}, &probe) else {
        return false;
    };
    let [Statement::Query(query)] = statements.as_slice() else {
        return false;
    };
    let SetExpr::Select(select) = query.body.as_ref() else {
        return false;
    };
    matches!(select.projection.first(), Some(SelectItem::UnnamedExpr(Expr::Identifier(ident))) if ident.value == word)
        && select.projection.len() == 3
}

#[cfg(test)]
mod tests;
