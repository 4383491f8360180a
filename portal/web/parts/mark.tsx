/** The mark: two isochrones around a site. */
export function Mark({ size }: { size: number }) {
  return (
    <svg
      class="mark"
      width={size}
      height={size}
      viewBox="0 0 32 32"
      fill="none"
      stroke="currentColor"
      stroke-width="2"
      stroke-linecap="round"
      aria-hidden="true"
    >
      <circle cx="16" cy="16" r="3" fill="currentColor" stroke="none" />
      <path d="M16 8.5c5 0 7.6 3.4 7.4 7.7-.2 4.4-3.6 7.3-7.6 7.2-4.2-.1-7.3-3.2-7.2-7.3C8.7 11.9 11.4 8.5 16 8.5z" />
      <path
        d="M15.5 3c7.5-.3 13.6 4.8 13.5 12.6C28.9 23.6 23.7 29 16.3 29 8.6 29 2.9 23.4 3 15.8 3.1 8.6 8.4 3.3 15.5 3z"
        stroke-dasharray="58 8 6 8"
        opacity=".55"
      />
    </svg>
  );
}
