"""The commands of `edgespec`, a file each; `options` holds the flags that several of them take."""
