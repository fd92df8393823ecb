use proptest::prelude::*;

use super::*;

fn kinds(sql: &str) -> Vec<Kind> {
    split(sql).unwrap().into_iter().map(|piece| piece.kind).collect()
}

fn set_to(name: &str, value: &str) -> Kind {
    Kind::Set(name.into(), Some(value.into()))
}

#[test]
fn a_script_is_taken_apart_at_its_semicolons() {
    let pieces = split("SELECT ';', \"a;b\" -- ;\n FROM x; /* ; */ ;\nSELECT 'ä;ö'; SET x.y = 1").unwrap();
    let texts: Vec<&str> = pieces.iter().map(|piece| piece.text.trim()).collect();
    assert_eq!(
        texts,
        ["SELECT ';', \"a;b\" -- ;\n FROM x", "SELECT 'ä;ö'", "SET x.y = 1"]
    );
    assert_eq!(kinds(" ; ;; "), [Kind::Empty]);
    assert_eq!(kinds(""), [Kind::Empty]);
    assert_eq!(split("SELECT 'no end").unwrap_err().code, "42601");
}

#[test]
fn settings_are_read() {
    assert_eq!(
        kinds("SET anabranch.require = 'exact'"),
        [set_to("anabranch.require", "exact")]
    );
    assert_eq!(
        kinds("set session statement_timeout to 500"),
        [set_to("statement_timeout", "500")]
    );
    assert_eq!(
        kinds("SET LOCAL statement_timeout = '2s'"),
        [Kind::SetLocal("statement_timeout".into(), Some("2s".into()))]
    );
    assert_eq!(
        kinds("SET TIME ZONE 'Europe/Berlin'"),
        [set_to("timezone", "Europe/Berlin")]
    );
    assert_eq!(
        kinds("SET search_path = \"$user\", public"),
        [set_to("search_path", "$user, public")]
    );
    assert_eq!(kinds("SET DateStyle TO ISO"), [set_to("datestyle", "ISO")]);
    assert_eq!(
        kinds("SET extra_float_digits = DEFAULT"),
        [Kind::Set("extra_float_digits".into(), None)]
    );
    assert_eq!(
        kinds("RESET anabranch.at_least"),
        [Kind::Set("anabranch.at_least".into(), None)]
    );
    assert_eq!(
        kinds("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
        [Kind::Nothing("SET")]
    );
    assert_eq!(
        kinds("SHOW anabranch.require"),
        [Kind::Show("anabranch.require".into())]
    );
    assert_eq!(
        kinds("show transaction isolation level"),
        [Kind::Show("transaction_isolation".into())]
    );
}

#[test]
fn what_clients_send_by_habit_is_known() {
    assert_eq!(
        kinds("BEGIN; SELECT 1; COMMIT"),
        [Kind::Begin, Kind::Query, Kind::Commit]
    );
    assert_eq!(kinds("start transaction read only"), [Kind::Begin]);
    assert_eq!(kinds("ROLLBACK TO SAVEPOINT a"), [Kind::RollbackTo("a".into())]);
    assert_eq!(kinds("DEALLOCATE ALL"), [Kind::Deallocate(None)]);
    assert_eq!(kinds("DEALLOCATE \"_p1\""), [Kind::Deallocate(Some("_p1".into()))]);
    assert_eq!(kinds("DISCARD ALL"), [Kind::DiscardAll]);
    assert_eq!(kinds("(SELECT 1) UNION ALL SELECT 2"), [Kind::Query]);
    assert_eq!(kinds("/* tool */ with x as (select 1) select * from x"), [Kind::Query]);
}

#[test]
fn what_writes_is_told_from_what_is_not_supported() {
    assert_eq!(kinds("create table x (a int)"), [Kind::Writes("CREATE TABLE".into())]);
    assert_eq!(kinds("DELETE FROM x"), [Kind::Writes("DELETE".into())]);
    assert_eq!(kinds("COPY x FROM STDIN"), [Kind::Writes("COPY FROM".into())]);
    assert_eq!(kinds("COPY x TO STDOUT"), [Kind::Copy]);
    assert_eq!(kinds("DECLARE c CURSOR FOR SELECT 1"), [Kind::Declare]);
}

#[test]
fn a_misspelled_statement_is_a_syntax_error_at_its_place() {
    for (sql, word, position) in [
        ("SELEC 1", "SELEC", 1),
        ("SELECT 'ä';\n  -- so\n  selec 2", "selec", 23),
        ("\"select\" 1", "\"select\"", 1),
        ("42", "42", 1),
        (") SELECT 1", ")", 1),
    ] {
        let error = split(sql).unwrap_err();
        assert_eq!((error.code, error.position), ("42601", Some(position)), "{sql}");
        assert_eq!(error.message, format!("syntax error at or near \"{word}\""));
    }
}

proptest! {
    #[test]
    fn any_text_is_taken_apart_or_refused(sql in "(?s).{0,60}") {
        let _ = split(&sql);
    }

    #[test]
    fn nothing_is_lost(parts in prop::collection::vec("[a-z ä'\"]{0,8}", 0..6)) {
        let sql = parts.join(";");
        if let Ok(pieces) = split(&sql) {
            for piece in pieces {
                prop_assert!(sql.contains(piece.text));
            }
        }
    }
}
