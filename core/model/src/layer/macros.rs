//! The macro that makes a section's type.

/// Defines the type of a section, or of a part of one, whose layers can be merged.
///
/// A field is one of
/// - `Option<At<T>>`: a value; the later layer wins;
/// - `Vec<At<T>>` or [`OneOrMany<T>`](crate::layer::OneOrMany): a list; layers append;
/// - `BTreeMap<String, At<T>>`: a map; layers merge key by key, the later one wins;
/// - another type made by this macro: merged field by field;
/// - anything else that is `Deserialize`, `Clone`, `Debug` and
///   [`Layered`](crate::layer::Layered).
///
/// Every field may be left out. An unknown field is an error with a suggestion. In the policy a
/// section is written in parentheses without a name: `(max: "1GiB")`.
///
/// ```
/// use palisade_model::layer::{At, Fragment, parse};
/// use palisade_model::units::SizeOrMax;
/// use palisade_model::{diag::SourceId, vars::Vars};
///
/// palisade_model::layered! {
///     /// Limits on memory.
///     pub struct Memory {
///         /// The most that may be used.
///         pub max: Option<At<SizeOrMax>>,
///     }
/// }
///
/// let fragment = Fragment::policy(SourceId(0), r#"( max: "1GiB" )"#, 0);
/// let memory: Memory = parse(&fragment, &Vars::new())?;
/// assert_eq!(memory.max.map(|max| max.value), Some(SizeOrMax::Bytes(1 << 30)));
/// # Ok::<(), palisade_model::diag::Diagnostic>(())
/// ```
#[macro_export]
macro_rules! layered {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty ),* $(,)?
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default)]
        $vis struct $name {
            $( $(#[$field_meta])* $field_vis $field: $type, )*
        }

        impl $name {
            const FIELDS: &'static [&'static str] =
                &[$( $crate::layer::field_name(stringify!($field)) ),*];
        }

        impl<'de> $crate::serde::Deserialize<'de> for $name {
            fn deserialize<D>(deserializer: D) -> ::core::result::Result<Self, D::Error>
            where
                D: $crate::serde::Deserializer<'de>,
            {
                struct Fields;

                impl<'de> $crate::serde::de::Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(
                        &self,
                        f: &mut ::core::fmt::Formatter<'_>,
                    ) -> ::core::fmt::Result {
                        f.write_str("struct")
                    }

                    fn visit_map<A>(
                        self,
                        mut map: A,
                    ) -> ::core::result::Result<$name, A::Error>
                    where
                        A: $crate::serde::de::MapAccess<'de>,
                    {
                        use $crate::serde::de::Error as _;
                        let mut section = <$name>::default();
                        let mut seen: ::std::vec::Vec<&'static str> = ::std::vec::Vec::new();
                        while let ::core::option::Option::Some(key) =
                            map.next_key::<::std::string::String>()?
                        {
                            let known = <$name>::FIELDS.iter().copied().find(|name| *name == key);
                            let ::core::option::Option::Some(name) = known else {
                                return ::core::result::Result::Err(
                                    A::Error::unknown_field(&key, <$name>::FIELDS),
                                );
                            };
                            if seen.contains(&name) {
                                return ::core::result::Result::Err(
                                    A::Error::duplicate_field(name),
                                );
                            }
                            seen.push(name);
                            $(
                                if name == $crate::layer::field_name(stringify!($field)) {
                                    section.$field =
                                        map.next_value_seed($crate::layer::Field::<$type>::new())?;
                                    continue;
                                }
                            )*
                        }
                        ::core::result::Result::Ok(section)
                    }
                }

                // The empty name is one that cannot be written, so none can be confused with it.
                deserializer.deserialize_struct("", <$name>::FIELDS, Fields)
            }
        }

        impl $crate::layer::Layered for $name {
            fn merge(&mut self, later: Self) {
                $( $crate::layer::Layered::merge(&mut self.$field, later.$field); )*
            }

            fn find(
                &self,
                path: &[&str],
            ) -> ::core::option::Option<::core::option::Option<$crate::diag::Origin>> {
                match path {
                    [] => {
                        $(
                            let found = $crate::layer::Layered::find(&self.$field, &[]);
                            if found.is_some() {
                                return found;
                            }
                        )*
                        ::core::option::Option::None
                    }
                    [first, rest @ ..] => {
                        $(
                            if *first == $crate::layer::field_name(stringify!($field)) {
                                return $crate::layer::Layered::find(&self.$field, rest);
                            }
                        )*
                        let _unused = (first, rest);
                        ::core::option::Option::None
                    }
                }
            }

            fn clear(
                &mut self,
                path: &[&str],
            ) -> ::core::result::Result<(), $crate::layer::PathError> {
                match path {
                    [] => *self = <$name>::default(),
                    [first, rest @ ..] => {
                        $(
                            if *first == $crate::layer::field_name(stringify!($field)) {
                                return $crate::layer::Layered::clear(&mut self.$field, rest);
                            }
                        )*
                        let _unused = rest;
                        return ::core::result::Result::Err($crate::layer::PathError::unknown(
                            first,
                            <$name>::FIELDS,
                        ));
                    }
                }
                ::core::result::Result::Ok(())
            }

            fn fields() -> &'static [&'static str] {
                <$name>::FIELDS
            }
        }
    )+};
}

/// The name of a field in a policy: `r#as` is written `as`.
#[doc(hidden)]
#[must_use]
pub const fn field_name(ident: &'static str) -> &'static str {
    match ident.as_bytes() {
        [b'r', b'#', ..] => ident.split_at(2).1,
        _ => ident,
    }
}
