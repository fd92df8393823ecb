use super::*;

#[test]
fn a_name_is_found_as_a_whole_word() {
    let sql = "SELECT editsx, \"Edits\" FROM totals";
    assert_eq!(position_of(sql, "edits"), Some(17));
    assert_eq!(position_of(sql, "public.totals"), Some(29));
    assert_eq!(position_of(sql, "total"), None);
    assert_eq!(
        position_of("SELECT 'ä', x", "x"),
        Some(13),
        "positions count characters"
    );
}

#[test]
fn the_parsers_line_and_column_are_a_position() {
    let message = "Expected: an expression, found: FROM at Line: 2, Column: 3";
    assert_eq!(position_in_message("SELECT\n  FROM x", message), Some(10));
    assert_eq!(position_in_message("SELECT", "something else"), None);
}

#[test]
fn causes_have_their_codes() {
    let error = QueryError::new(Cause::UnknownColumn, "there is no column y").about("y");
    let error = PgError::of_query(error, "SELECT y FROM totals");
    assert_eq!((error.code, error.position), ("42703", Some(8)));
}
