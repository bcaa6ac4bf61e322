//! Amounts of money, which are whole cents; rates are basis points (1900 is 19 %).

/// `rate` basis points of `cents`, rounded half away from zero.
pub fn share(cents: i64, rate: i32) -> i64 {
    let exact = i128::from(cents) * i128::from(rate);
    let rounded = (exact.abs() + 5_000) / 10_000 * exact.signum();
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

/// Splits `cents` over `weights` so that the parts add up to `cents` exactly; the largest remainders get the odd cents,
/// earlier parts first. Nothing to split over, or weights that are all zero, give parts of zero.
pub fn split(cents: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact = |weight: u64| u128::from(cents) * u128::from(weight);
    // A part is at most `cents`, so it fits.
    let mut parts: Vec<u64> = weights
        .iter()
        .map(|&weight| (exact(weight) / sum) as u64)
        .collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(exact(weights[index]) % sum));
    let missing = cents - parts.iter().sum::<u64>();
    for &index in order.iter().take(missing as usize) {
        parts[index] += 1;
    }
    parts
}

/// `cents` as people write it in `currency`, which has `minor_units` decimals: `1234.50 EUR`.
pub fn display(cents: i64, minor_units: u32, currency: &str) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let magnitude = cents.unsigned_abs();
    if minor_units == 0 {
        return format!("{sign}{magnitude} {currency}");
    }
    let unit = 10_u64.pow(minor_units);
    format!(
        "{sign}{}.{:0width$} {currency}",
        magnitude / unit,
        magnitude % unit,
        width = minor_units as usize
    )
}
