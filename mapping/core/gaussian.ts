/** Small sums of normal distributions: what a few measured figures say of others that go with them. Flat arrays, no allocation. */

/** Standard normal distribution function, within 1.5e-7 (Abramowitz and Stegun 1964, 7.1.26). */
export function normalCdf(x: number): number {
  const z = Math.abs(x) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * z);
  const poly =
    t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const erf = 1 - poly * Math.exp(-z * z);
  return x < 0 ? (1 - erf) / 2 : (1 + erf) / 2;
}

/**
 * The lower Cholesky factor of a symmetric positive definite `size` x `size` matrix, row by row, in place (what is above the diagonal stays). Returns
 * the logarithm of its determinant.
 */
export function factorise(matrix: Float64Array, size: number): number {
  let logDeterminant = 0;
  for (let row = 0; row < size; row++) {
    for (let column = 0; column <= row; column++) {
      let sum = matrix[row * size + column] as number;
      for (let n = 0; n < column; n++)
        sum -= (matrix[row * size + n] as number) * (matrix[column * size + n] as number);
      if (column === row) {
        const root = Math.sqrt(Math.max(sum, Number.EPSILON));
        matrix[row * size + row] = root;
        logDeterminant += 2 * Math.log(root);
      } else matrix[row * size + column] = sum / (matrix[column * size + column] as number);
    }
  }
  return logDeterminant;
}

/** Solves L x = b in place, L as {@link factorise} leaves it; the sum of x^2 is b' A^-1 b. */
export function forward(factor: Float64Array, size: number, b: Float64Array): number {
  let squares = 0;
  for (let row = 0; row < size; row++) {
    let sum = b[row] as number;
    for (let n = 0; n < row; n++) sum -= (factor[row * size + n] as number) * (b[n] as number);
    sum /= factor[row * size + row] as number;
    b[row] = sum;
    squares += sum * sum;
  }
  return squares;
}

/** Solves L' x = b in place: after {@link forward} it is A^-1 of what `b` was before. */
export function backward(factor: Float64Array, size: number, b: Float64Array): void {
  for (let row = size - 1; row >= 0; row--) {
    let sum = b[row] as number;
    for (let n = row + 1; n < size; n++) sum -= (factor[n * size + row] as number) * (b[n] as number);
    b[row] = sum / (factor[row * size + row] as number);
  }
}
