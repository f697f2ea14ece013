//! JSON, judged before anything is made of it.
//!
//! The parser that fills our types forgives three things that an attacker can use: a member that
//! comes twice (two readers of the same text may each believe another one), nesting without sense,
//! and bytes after the end. This pass refuses them, and says where. It keeps nothing but the names
//! of members, so a secret is not copied.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// How deep objects and lists may lie in one another. The deepest that the API knows is 6.
pub(super) const MAX_DEPTH: usize = 16;

/// What is wrong with the form of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// A member comes twice. The path of the second.
    Duplicate(String),
    /// Deeper than [`MAX_DEPTH`]. The path to the bottom.
    TooDeep(String),
    /// Not JSON. Line and column.
    Syntax(usize, usize),
}

/// Judges the form of `text`.
pub(super) fn judge(text: &str) -> Result<(), Fault> {
    let walk = Walk::default();
    let mut parser = serde_json::Deserializer::from_str(text);
    let walked = Node(&walk)
        .deserialize(&mut parser)
        .and_then(|()| parser.end());
    match (walked, walk.fault.take()) {
        (_, Some(fault)) => Err(fault),
        (Err(error), None) => Err(Fault::Syntax(error.line(), error.column())),
        (Ok(()), None) => Ok(()),
    }
}

#[derive(Default)]
struct Walk {
    path: RefCell<Vec<Step>>,
    fault: RefCell<Option<Fault>>,
}

enum Step {
    Member(String),
    Item(usize),
}

impl Walk {
    fn enter(&self, step: Step) {
        self.path.borrow_mut().push(step);
    }

    fn leave(&self) {
        self.path.borrow_mut().pop();
    }

    fn here(&self) -> String {
        let mut text = String::new();
        for step in self.path.borrow().iter() {
            match step {
                Step::Item(index) => text.push_str(&format!("[{index}]")),
                Step::Member(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
            }
        }
        text
    }

    fn refuse<E: de::Error>(&self, fault: impl FnOnce(String) -> Fault) -> E {
        *self.fault.borrow_mut() = Some(fault(self.here()));
        E::custom("refused")
    }

    fn too_deep(&self) -> bool {
        self.path.borrow().len() >= MAX_DEPTH
    }
}

#[derive(Clone, Copy)]
struct Node<'a>(&'a Walk);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.0.too_deep() {
            return Err(self.0.refuse(Fault::TooDeep));
        }
        let mut index = 0;
        loop {
            self.0.enter(Step::Item(index));
            let item = items.next_element_seed(self)?;
            self.0.leave();
            if item.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        if self.0.too_deep() {
            return Err(self.0.refuse(Fault::TooDeep));
        }
        let mut seen = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            let again = !seen.insert(name.clone());
            self.0.enter(Step::Member(name));
            if again {
                return Err(self.0.refuse(Fault::Duplicate));
            }
            members.next_value_seed(self)?;
            self.0.leave();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_every_kind_of_value() {
        let text = r#"{"a":[1,-2,3.5,"x",null,true,{"b":{}},[]],"c":18446744073709551615}"#;

        assert_eq!(judge(text), Ok(()));
    }

    /// S15
    #[test]
    fn names_a_member_that_comes_twice() {
        for (text, path) in [
            (r#"{"a":1,"a":1}"#, "a"),
            (r#"{"a":[{"b":{"c":1,"\u0063":2}}]}"#, "a[0].b.c"),
        ] {
            assert_eq!(
                judge(text),
                Err(Fault::Duplicate(path.to_owned())),
                "{text}"
            );
        }
        assert_eq!(judge(r#"[{"a":1},{"a":1}]"#), Ok(()));
    }

    /// S15
    #[test]
    fn bounds_depth_whatever_it_is_made_of() {
        let lists = "[".repeat(100_000);
        let objects = r#"{"a":"#.repeat(100_000);

        assert!(matches!(judge(&lists), Err(Fault::TooDeep(_))));
        assert!(matches!(judge(&objects), Err(Fault::TooDeep(_))));
        let deepest = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert_eq!(judge(&deepest), Ok(()));
    }

    /// S15
    #[test]
    fn says_where_it_stops_being_json() {
        assert_eq!(judge("{\"a\":\n tru}"), Err(Fault::Syntax(2, 5)));
        for text in ["", "{", "{}{}", "{} x", "'a'", "[1,]", "NaN", "\"\u{1}\""] {
            assert!(matches!(judge(text), Err(Fault::Syntax(..))), "{text:?}");
        }
    }
}
