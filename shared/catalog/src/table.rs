//! `CREATE TABLE name (columns) WITH (options)`.

use arrow::datatypes::DataType;

use crate::cursor::Cursor;
use crate::name::Name;
use crate::options::{Options, options};
use crate::types::data_type;
use crate::{Column, Diagnostic, Source, TimestampFormat, nearest};

/// Reads a table whose name was already consumed. `None` when something was wrong; what is in `problems`.
pub(crate) fn table(name: &Name, mut cursor: Cursor<'_>, problems: &mut Vec<Diagnostic>) -> Option<Source> {
    let before = problems.len();
    let columns = match cursor.list("columns such as `channel TEXT`") {
        Ok(items) => columns(&items, problems),
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let columns_complete = problems.len() == before;
    if columns.is_empty() && columns_complete {
        problems.push(Diagnostic::new(
            name.place,
            format!("table `{}` has no columns", name.sql()),
        ));
    }
    let mut given = Options::default();
    if cursor.keywords(&["WITH"]) {
        match cursor.list("options such as `connector = 'kafka'`") {
            Ok(items) => given = options(&items, problems),
            Err(problem) => {
                problems.push(problem);
                return None;
            }
        }
    }
    problems.extend(cursor.finish("`WITH (…)` or `;`").err());
    let event_time = event_time(&given, &columns, columns_complete, problems);
    if problems.len() > before {
        return None;
    }
    Some(source(name.sql(), columns, event_time, given))
}

fn source(name: String, mut columns: Vec<Column>, event_time: Option<String>, given: Options) -> Source {
    for column in &mut columns {
        column.timestamp_format = given.timestamp_format;
    }
    Source {
        topic: given.topic.unwrap_or_else(|| name.clone()),
        name,
        connector: given.connector,
        partitions: given.partitions,
        columns,
        event_time,
        start: given.start,
        keep_raw: given.keep_raw,
        on_gap: given.on_gap,
        retention: given.retention,
        keep_for: given.keep_for,
    }
}

fn columns(items: &[Cursor<'_>], problems: &mut Vec<Diagnostic>) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for item in items {
        let parsed = column(*item).and_then(|(name, column)| match twin(&columns, &column) {
            Some(twin) if twin.name == column.name => Err(Diagnostic::new(
                name.place,
                format!("column `{}` is declared twice", column.name),
            )),
            Some(twin) => {
                let message = format!("columns `{}` and `{}` differ only in case", twin.name, column.name);
                Err(Diagnostic::new(name.place, message)
                    .with_hint("they could not be told apart in SQL: declare one of them"))
            }
            None => Ok(column),
        });
        match parsed {
            Ok(column) => columns.push(column),
            Err(problem) => problems.push(problem),
        }
    }
    columns
}

fn twin<'c>(columns: &'c [Column], column: &Column) -> Option<&'c Column> {
    columns
        .iter()
        .find(|other| other.name.to_lowercase() == column.name.to_lowercase())
}

/// `name TYPE [NOT NULL | NULL]`
fn column(mut item: Cursor<'_>) -> Result<(Name, Column), Diagnostic> {
    for (constraint, next) in [
        ("PRIMARY", "KEY"),
        ("FOREIGN", "KEY"),
        ("UNIQUE", "("),
        ("CHECK", "("),
        ("WATERMARK", "FOR"),
    ] {
        let mut ahead = item;
        if ahead.keywords(&[constraint])
            && ahead
                .peek()
                .is_some_and(|token| token.to_string().eq_ignore_ascii_case(next))
        {
            return Err(refused_clause(&item, constraint));
        }
    }
    let name = item.name("a column name")?;
    name.check_column()?;
    let data_type = data_type(&mut item)?;
    let not_null = item.keywords(&["NOT", "NULL"]);
    if !not_null {
        item.keywords(&["NULL"]);
    }
    if let Some(word) = item.peek_word() {
        return Err(refused_clause(&item, &word.value.to_ascii_uppercase()));
    }
    item.finish("`,` or `)`")?;
    let column = Column {
        name: name.sql(),
        json_key: name.written().to_owned(),
        data_type,
        not_null,
        timestamp_format: TimestampFormat::default(),
    };
    Ok((name, column))
}

fn refused_clause(item: &Cursor<'_>, clause: &str) -> Diagnostic {
    let hint = match clause {
        "PRIMARY" | "UNIQUE" | "FOREIGN" => {
            "a source is an append-only stream of events: it has no keys; leave the clause out"
        }
        "CHECK" => "filter in the view's WHERE instead",
        "DEFAULT" => "an absent field is null; use coalesce(column, value) in the view",
        "GENERATED" | "AS" => "write the expression in the view",
        "WATERMARK" => {
            "late events are always counted, so there is nothing to bound; name the column in WITH (event_time = '…')"
        }
        _ => "a column is `name TYPE` or `name TYPE NOT NULL`",
    };
    let message = format!("`{clause}` is not supported in a table");
    Diagnostic::new(item.place(), message).with_hint(hint)
}

fn event_time(
    given: &Options,
    columns: &[Column],
    columns_complete: bool,
    problems: &mut Vec<Diagnostic>,
) -> Option<String> {
    let (wanted, place) = given.event_time.as_ref()?;
    let found = columns
        .iter()
        .find(|column| column.name == *wanted)
        .or_else(|| columns.iter().find(|column| column.json_key == *wanted));
    match found {
        Some(column) if matches!(column.data_type, DataType::Timestamp(..)) => return Some(column.name.clone()),
        Some(column) => problems.push(
            Diagnostic::new(
                *place,
                format!("event_time names `{}`, which is not a TIMESTAMP", column.name),
            )
            .with_hint("declare the column as TIMESTAMP; timestamp_format reads epoch numbers"),
        ),
        // A column that was refused may be the one that is meant.
        None if !columns_complete => {}
        None => {
            let times = columns
                .iter()
                .filter(|column| matches!(column.data_type, DataType::Timestamp(..)));
            let names: Vec<&str> = times.map(|column| column.name.as_str()).collect();
            let hint = match nearest(wanted, names.iter().copied()) {
                Some(near) => format!("did you mean '{near}'?"),
                None if names.is_empty() => "declare a TIMESTAMP column for it".to_owned(),
                None => format!("TIMESTAMP columns: {}", names.join(", ")),
            };
            problems.push(Diagnostic::new(*place, format!("event_time names no column: '{wanted}'")).with_hint(hint));
        }
    }
    None
}
