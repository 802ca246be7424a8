//! Statements that write many rows at once.

use sea_orm::{DbBackend, Value};

/// Rows in one statement: with the widest row of ours, 17 values, a quarter of what SQLite takes.
pub(super) const ROWS_AT_ONCE: usize = 500;

/// What stands behind `VALUES` for rows of `N` values each, `($1, $2), ($3, $4)`, and the values in their order. They are all that
/// the statement has.
///
/// For SQLite `(?, ?), (?, ?)`: where places have names or numbers, it goes through all of them for each that is bound.
pub(super) fn rows<const N: usize>(
    backend: DbBackend,
    rows: impl IntoIterator<Item = [Value; N]>,
) -> (String, Vec<Value>) {
    let (mut places, mut values) = (String::new(), Vec::new());
    for row in rows {
        places.push_str(if values.is_empty() { "(" } else { ", (" });
        for (column, value) in row.into_iter().enumerate() {
            if column > 0 {
                places.push_str(", ");
            }
            values.push(value);
            match backend {
                DbBackend::Postgres => {
                    places.push('$');
                    places.push_str(&values.len().to_string());
                }
                _ => places.push('?'),
            }
        }
        places.push(')');
    }
    (places, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_place() {
        for (backend, expected) in [(DbBackend::Postgres, "($1, $2), ($3, $4)"), (DbBackend::Sqlite, "(?, ?), (?, ?)")]
        {
            let given = [[Value::from(1_i64), Value::from("a")], [Value::from(2_i64), Value::from("b")]];
            let (places, values) = rows(backend, given);
            assert_eq!(places, expected);
            assert_eq!(values, [Value::from(1_i64), Value::from("a"), Value::from(2_i64), Value::from("b")]);
            assert_eq!(rows::<3>(backend, []), (String::new(), Vec::new()));
        }
    }
}
