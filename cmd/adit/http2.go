package main

// WebSockets over HTTP/2 are off in net/http unless this package turns them
// on before net/http starts.
import _ "adit/internal/extendedconnect"
