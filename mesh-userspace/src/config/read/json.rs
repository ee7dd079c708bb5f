//! JSON as the table that its like in TOML would be.

use jsonc_parser::ast::{Object, ObjectPropName, Value};
use jsonc_parser::common::{Range, Ranged as _};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::value::Node;
use crate::config::Problem;

/// JSON as RFC 8259 has it.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// The table that a text is.
pub(super) fn table(text: &str) -> Result<DeTable<'_>, Problem> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &STRICT);
    let parsed = parsed.map_err(|error| wrong(&error.kind().to_string(), error.range()))?;
    match parsed.value {
        Some(Value::Object(object)) => object_table(object),
        Some(other) => Err(wrong("this is no object", other.range())),
        None => Err(Problem::new("there is nothing").advise(ADVICE).at(0..0)),
    }
}

const ADVICE: &str = "write an object in JSON, such as {\"name\": \"web\", \"vip\": \"203.0.113.10\"}";

fn wrong(message: &str, at: Range) -> Problem {
    Problem::new(message).advise(ADVICE).at(at.start..at.end)
}

fn object_table(object: Object<'_>) -> Result<DeTable<'_>, Problem> {
    let mut table = DeTable::new();
    for property in object.properties {
        let (name, at) = match property.name {
            ObjectPropName::String(text) => (text.value, text.range),
            ObjectPropName::Word(word) => (word.value.into(), word.range),
        };
        let value = node(property.value)?;
        if table.insert(Spanned::new(at.start..at.end, name), value).is_some() {
            return Err(Problem::new("duplicate key").advise("keep one of the two").at(at.start..at.end));
        }
    }
    Ok(table)
}

fn node(value: Value<'_>) -> Result<Node<'_>, Problem> {
    let Range { start, end } = value.range();
    let value = match value {
        Value::StringLit(text) => DeValue::String(text.value),
        Value::BooleanLit(boolean) => DeValue::Boolean(boolean.value),
        // Every number in JSON is one in TOML, too.
        Value::NumberLit(number) => DeValue::parse(number.value)
            .map_err(|error| Problem::new(error.message()).advise(ADVICE).at(start..end))?
            .into_inner(),
        Value::Array(array) => {
            DeValue::Array(array.elements.into_iter().map(node).collect::<Result<DeArray<'_>, _>>()?)
        }
        Value::Object(object) => DeValue::Table(object_table(object)?),
        Value::NullKeyword(_) => {
            return Err(Problem::new("null is no value").advise("leave the key away").at(start..end));
        }
    };
    Ok(Spanned::new(start..end, value))
}
