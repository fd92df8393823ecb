use std::fmt;

use super::*;

#[derive(Debug)]
struct Said(&'static str, Option<Box<Said>>);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Said {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|cause| cause as _)
    }
}

#[test]
fn causes_are_told_once_each() {
    let disk = || Some(Box::new(Said("the disk is full", None)));
    let plain = Said("cannot land", Some(Box::new(Said("cannot write a", disk()))));
    assert_eq!(with_causes(&plain), "cannot land: cannot write a: the disk is full");
    let quoting = Said("cannot land: the disk is full", disk());
    assert_eq!(with_causes(&quoting), "cannot land: the disk is full");
}
