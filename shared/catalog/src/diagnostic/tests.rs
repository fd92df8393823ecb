use super::*;

#[test]
fn renders_like_rustc() {
    let sql = "CREATE TABLE t (\n  a TEXT,\n  added BIGNIT\n);\n";
    let diagnostic =
        Diagnostic::new(Place { line: 3, column: 9 }, "unknown type `BIGNIT`").with_hint("did you mean `BIGINT`?");
    assert_eq!(
        diagnostic.render("conf/views.sql", sql),
        "error: unknown type `BIGNIT`\n \
         --> conf/views.sql:3:9\n  \
         |\n\
         3 |   added BIGNIT\n  \
         |         ^^^^^^\n  \
         = help: did you mean `BIGINT`?\n"
    );
}

#[test]
fn caret_follows_characters_not_bytes_and_keeps_tabs() {
    let sql = "\tü 'x y' -";
    let at = |column| Diagnostic::new(Place { line: 1, column }, "m").render("v", sql);
    assert!(at(4).contains("\n  | \t  ^^^^^\n"), "{}", at(4));
    assert!(at(10).contains("\n  | \t        ^\n"), "{}", at(10));
}

#[test]
fn a_place_beyond_the_text_still_renders() {
    let past_line = Diagnostic::new(Place { line: 12, column: 1 }, "m").render("v", "one line");
    assert_eq!(past_line, "error: m\n  --> v:12:1\n");
    let past_column = Diagnostic::new(Place { line: 1, column: 99 }, "m").render("v", "ab");
    assert_eq!(past_column, "error: m\n --> v:1:99\n  |\n1 | ab\n  |   ^\n");
    let nowhere = Diagnostic::new(Place::default(), "m").render("v", "ab");
    assert_eq!(nowhere, "error: m\n --> v:0:0\n");
}

#[test]
fn displays_on_one_line() {
    let place = Place { line: 2, column: 7 };
    assert_eq!(Diagnostic::new(place, "no").to_string(), "line 2, column 7: no");
    assert_eq!(
        Diagnostic::new(place, "no").with_hint("yes").to_string(),
        "line 2, column 7: no (yes)"
    );
}
