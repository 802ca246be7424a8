//! Texts with `{{names}}` in them. What is put in is not read again, so a caller's text cannot name a variable.

/// A name that has no value.
#[derive(Debug, PartialEq)]
pub struct Unknown(pub String);

/// Puts the value of each name in its place. Braces around anything else than a name are text.
pub fn fill(template: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, Unknown> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        let inside = &rest[start + 2..];
        let name = inside.find("}}").map(|end| (end, inside[..end].trim())).filter(|(_, name)| is_name(name));
        let Some((end, name)) = name else {
            filled.push_str(&rest[..start + 2]);
            rest = inside;
            continue;
        };
        filled.push_str(&rest[..start]);
        filled.push_str(&value(name).ok_or_else(|| Unknown(name.to_owned()))?);
        rest = &inside[end + 2..];
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|character| character.is_ascii_alphanumeric() || "_-.".contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_once_and_other_braces_stay() {
        let value = |name: &str| (name == "a").then(|| "{{a}}".to_owned());
        assert_eq!(fill("x {{ a }}{{a}} {{1 + 2}} {{", value), Ok("x {{a}}{{a}} {{1 + 2}} {{".into()));
        assert_eq!(fill("{{b}}", value), Err(Unknown("b".into())));
    }
}
