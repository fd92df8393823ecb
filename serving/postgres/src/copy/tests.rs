use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, StringArray};

use super::*;
use crate::encode::cell;

fn parsed(sql: &str) -> Copy {
    Copy::parse(sql).unwrap_or_else(|error| panic!("{error:?}: {sql}"))
}

/// What rows of `text, int4` become.
fn written(options: &str) -> String {
    String::from_utf8_lossy(&bytes(options)).into_owned()
}

fn bytes(options: &str) -> Vec<u8> {
    let style = parsed(&format!("COPY t TO STDOUT {options}")).style;
    let texts: ArrayRef = Arc::new(StringArray::from(vec![
        Some("a\tb"),
        None,
        Some(""),
        Some("say \"x\", \\y"),
        Some("two\nlines"),
    ]));
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(2), None, Some(-4), Some(5)]));
    let cells: Vec<Cell> = [&texts, &numbers]
        .map(|array| cell(array, style.is_binary()).unwrap())
        .into();
    let names = ["name", "n,o"];
    let (mut out, mut scratch) = (BytesMut::new(), BytesMut::new());
    style.begin(&names, &mut out);
    for row in 0..texts.len() {
        style.row((row, &cells), &style.quoted(&names), &mut scratch, &mut out);
    }
    style.end(&mut out);
    out.to_vec()
}

#[test]
fn rows_are_written_as_postgresql_does() {
    assert_eq!(
        written(""),
        "a\\tb\t1\n\\N\t2\n\t\\N\nsay \"x\", \\\\y\t-4\ntwo\\nlines\t5\n"
    );
    assert_eq!(
        written("(FORMAT csv, HEADER)"),
        "name,\"n,o\"\na\tb,1\n,2\n\"\",\n\"say \"\"x\"\", \\y\",-4\n\"two\nlines\",5\n"
    );
    assert_eq!(
        written("WITH CSV DELIMITER AS ';' NULL 'none' QUOTE '''' ESCAPE '!' FORCE QUOTE name"),
        "'a\tb';1\nnone;2\n'';none\n'say \"x\", \\y';-4\n'two\nlines';5\n"
    );
    assert_eq!(written("(DELIMITER '|', NULL '')").lines().next(), Some("a\\tb|1"));
    let binary = bytes("WITH BINARY");
    assert!(binary.starts_with(
        b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x03a\tb\0\0\0\x04\0\0\0\x01\0\x02\xff\xff\xff\xff"
    ));
    assert!(binary.ends_with(b"\xff\xff"));
}

#[test]
fn what_is_copied_is_a_query() {
    for (sql, query) in [
        (
            "COPY (SELECT (1), ')' FROM x -- )\n) TO STDOUT",
            "SELECT (1), ')' FROM x -- )\n",
        ),
        ("copy totals to stdout", "SELECT * FROM totals"),
        (
            "COPY public.\"To tals\" (a, \"b c\") TO STDOUT (FORMAT 'binary')",
            "SELECT a, \"b c\" FROM public.\"To tals\"",
        ),
        ("COPY BINARY totals TO STDOUT", "SELECT * FROM totals"),
        (
            "COPY (SELECT 1) TO STDOUT WITH (FORMAT CSV, HEADER false, FORCE_QUOTE *, ENCODING 'UTF8')",
            "SELECT 1",
        ),
    ] {
        assert_eq!(parsed(sql).query, query, "{sql}");
    }
    for (sql, code) in [
        ("COPY totals TO '/etc/passwd'", "0A000"),
        ("COPY totals TO PROGRAM 'rm'", "0A000"),
        ("COPY (SELECT 1", "42601"),
        ("COPY (SELECT 1) TO STDOUT nonsense", "42601"),
        ("COPY (SELECT 1) TO STDOUT (FORMAT json)", "22023"),
        ("COPY (SELECT 1) TO STDOUT (FORMAT binary, HEADER)", "22023"),
        ("COPY (SELECT 1) TO STDOUT (QUOTE 'x')", "22023"),
        ("COPY (SELECT 1) TO STDOUT (FORMAT csv, DELIMITER '\"')", "22023"),
        ("COPY (SELECT 1) TO STDOUT (DELIMITER 'ab')", "22023"),
        ("COPY (SELECT 1) TO STDOUT (ENCODING 'LATIN1')", "0A000"),
        ("COPY", "42601"),
        ("COPY a.", "42601"),
        ("COPY a (b", "42601"),
    ] {
        assert_eq!(Copy::parse(sql).unwrap_err().code, code, "{sql}");
    }
}
