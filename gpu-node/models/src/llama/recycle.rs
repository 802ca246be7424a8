//! Keeping a vector's memory across steps although what it holds borrows from the step.

/// Empties `items` and gives its memory to a vector of the same type that borrows from something else. The standard
/// library collects a `vec::IntoIter` in place; if it ever did not, this would allocate and still be right.
pub(super) fn recycle<From, To>(mut items: Vec<From>) -> Vec<To> {
    items.clear();
    items.into_iter().map(|_| unreachable!("the vector was emptied above")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_stays() {
        let text = "souk".to_owned();
        let mut items: Vec<&str> = Vec::with_capacity(100);
        items.push(&text);
        let recycled: Vec<&'static str> = recycle(items);
        assert!(recycled.is_empty() && recycled.capacity() == 100);
    }
}
