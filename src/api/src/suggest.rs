//! The nearest known name to one that is not known, for `did you mean`.

/// Names longer than this are nobody's typing error.
const MAX_NAME: usize = 64;

/// The candidate with the fewest edits to `name`, if it is near enough to be meant. Letter case and
/// `_` against `-` count for nothing; of equally near ones the first wins.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if name.is_empty() || name.len() > MAX_NAME {
        return None;
    }
    let folded = fold(name);
    let near = candidates
        .into_iter()
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .min_by_key(|(edits, _)| *edits)?;
    let allowed = (folded.len().max(near.1.len()) / 3).clamp(1, 3);
    (near.0 <= allowed).then_some(near.1)
}

fn fold(text: &str) -> Vec<char> {
    text.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = Vec::with_capacity(to.len() + 1);
        row.push(i + 1);
        for (j, b) in to.iter().enumerate() {
            let mut cost = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["shards", "masters", "replicasPerMaster", "maxmemory-policy", "by"];
        for (typed, meant) in [
            ("shard", Some("shards")),
            ("Shards", Some("shards")),
            ("shrads", Some("shards")),
            ("replicas_per_master", Some("replicasPerMaster")),
            ("maxmemory_policy", Some("maxmemory-policy")),
            ("yb", Some("by")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names), meant, "{typed}");
        }
        assert_eq!(nearest(&"x".repeat(1000), names), None);
    }
}
