use datafusion::sql::planner::IdentNormalizer;

use super::*;

#[test]
fn folds_as_datafusion_does() {
    let normalizer = IdentNormalizer::new(true);
    for value in ["channel", "cityName", "CITY", "ÄÖÜ", "straße", "İ", "a b", ""] {
        for quote in [None, Some('"'), Some('`')] {
            let ident = match quote {
                Some(quote) => Ident::with_quote(quote, value),
                None => Ident::new(value),
            };
            assert_eq!(fold_identifier(&ident), normalizer.normalize(ident.clone()), "{ident}");
        }
    }
}
