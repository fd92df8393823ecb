use super::*;

#[test]
fn patterns_match_whole_names() {
    let patterns = ViewPatterns::new(["pages", "shop_*", " *_daily ", "a*b*c", ""]);
    for view in ["pages", "shop_", "shop_orders", "sales_daily", "abc", "a_b_b_c", "abbc"] {
        assert!(patterns.matches(view), "{view}");
    }
    for view in ["page", "pagesx", "xpages", "shop", "daily", "ab", "acb", ""] {
        assert!(!patterns.matches(view), "{view}");
    }
    assert!(!ViewPatterns::none().matches("pages"));
    assert!(ViewPatterns::all().matches("") && ViewPatterns::all().matches("anything"));
}

#[test]
fn a_pattern_of_many_stars_takes_no_longer_for_it() {
    // A matcher that tries every split would need more steps than there are atoms in this machine.
    let pattern = ViewPatterns::new(["*a".repeat(60)]);
    assert!(!pattern.matches(&"a".repeat(59)));
    assert!(pattern.matches(&"a".repeat(4_000)));
    assert!(!pattern.matches(&format!("{}b", "a".repeat(4_000))));
}

#[test]
fn roles_permit_what_they_say_and_no_more() {
    let read = Principal::new("r", Role::Read, ViewPatterns::new(["pages"]));
    assert!(read.may_read("pages") && !read.may_read("totals") && read.may_read_any());
    assert!(!read.may_ingest() && !read.may_administer() && !read.may_read_all());

    let ingest = Principal::new("i", Role::Ingest, ViewPatterns::none());
    assert!(ingest.may_ingest());
    assert!(!ingest.may_read("pages") && !ingest.may_read_any() && !ingest.may_administer());
    let both = Principal::new("b", Role::Ingest, ViewPatterns::all());
    assert!(both.may_ingest() && both.may_read("pages") && both.may_read_all() && !both.may_administer());

    let admin = Principal::new("a", Role::Admin, ViewPatterns::none());
    assert!(admin.may_read("pages") && admin.may_read_all() && admin.may_ingest() && admin.may_administer());
    let anybody = Principal::anonymous_admin();
    assert!(anybody.may_administer() && anybody.may_ingest() && anybody.may_read("pages"));
}

#[test]
fn who_is_known_is_written_down_whatever_they_say() {
    let ann = Principal::new("ann", Role::Admin, ViewPatterns::none());
    assert_eq!(ann.recorded(Some("bob")), "ann");
    assert_eq!(Principal::anonymous_admin().recorded(Some("bob")), "bob");
    assert_eq!(Principal::anonymous_admin().recorded(None), "http");
}

#[test]
fn a_role_is_read_as_it_is_written() {
    for role in [Role::Read, Role::Ingest, Role::Admin] {
        assert_eq!(role.to_string().parse(), Ok(role));
        assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
    }
    assert!("root".parse::<Role>().unwrap_err().contains("read, ingest and admin"));
}
