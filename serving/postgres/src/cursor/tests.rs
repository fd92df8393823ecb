use super::*;

#[test]
fn cursors_are_declared() {
    let sql = "DECLARE \"my cursor\" BINARY NO SCROLL CURSOR WITH HOLD FOR SELECT 'for' FROM x";
    assert_eq!(
        Declaration::parse(sql).unwrap(),
        Declaration {
            name: "my cursor".into(),
            binary: true,
            holds: true,
            query: "SELECT 'for' FROM x",
        }
    );
    let plain = Declaration::parse("declare C cursor without hold for\n table x").unwrap();
    assert_eq!((plain.name.as_str(), plain.holds, plain.query), ("c", false, "table x"));
    for (sql, code) in [
        ("DECLARE c SCROLL CURSOR FOR SELECT 1", "0A000"),
        ("DECLARE c CURSOR SELECT 1", "42601"),
        ("DECLARE c CURSOR FOR", "42601"),
        ("DECLARE c FOR SELECT 1", "42601"),
    ] {
        assert_eq!(Declaration::parse(sql).unwrap_err().code, code, "{sql}");
    }
}

#[test]
fn rows_are_fetched_forward() {
    for (sql, count, moves) in [
        ("FETCH c", Some(1), false),
        ("FETCH FROM c", Some(1), false),
        ("FETCH NEXT FROM c", Some(1), false),
        ("FETCH 7 IN c", Some(7), false),
        ("fetch forward 1000 from C", Some(1000), false),
        ("FETCH FORWARD c", Some(1), false),
        ("FETCH FORWARD ALL FROM \"c\"", None, false),
        ("FETCH ALL c", None, false),
        ("MOVE 3 FROM c", Some(3), true),
    ] {
        let expected = Fetch {
            name: "c".into(),
            count,
            moves,
        };
        assert_eq!(Fetch::parse(sql).unwrap(), expected, "{sql}");
    }
    assert_eq!(
        Fetch::parse("FETCH next").unwrap().name,
        "next",
        "a cursor may be called so"
    );
    for (sql, code) in [
        ("FETCH PRIOR FROM c", "55000"),
        ("FETCH -1 FROM c", "55000"),
        ("FETCH ABSOLUTE 3 FROM c", "55000"),
        ("FETCH 3 FROM", "42601"),
        ("FETCH 3 FROM c d", "42601"),
        ("FETCH 99999999999999999999999 FROM c", "42601"),
    ] {
        assert_eq!(Fetch::parse(sql).unwrap_err().code, code, "{sql}");
    }
}
