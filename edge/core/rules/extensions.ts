/** Extensions by what they promise. */

const OF_NO_PAGE: ReadonlySet<string> = new Set(
  [
    "css js mjs wasm",
    "avif bmp gif ico jpeg jpg png svg tif tiff webp",
    "eot otf ttf woff woff2",
    "aac aiff flac m3u8 m4a m4s m4v mid midi mkv mov mp3 mp4 mpd mpeg mpg oga ogg ogv opus ts wav webm",
    "7z apk bin bz2 deb dmg exe gz iso jar msi rar rpm tar tgz xz zip zst",
    "csv doc docx eps epub odp ods odt pdf ppt pptx ps rtf swf txt xls xlsx",
  ].flatMap((line) => line.split(" ")),
);

/** Whether what has the extension (lower case, without dot) is neither HTML nor JSON. */
export const isOfNoPage = (extension: string): boolean => OF_NO_PAGE.has(extension);
