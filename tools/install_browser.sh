#!/bin/sh
# Chromium and a Chinese system font for the browser tests: through apt where that is possible, else a clear message.
browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
chinese() { command -v fc-list >/dev/null && [ -n "$(fc-list :lang=zh family)" ]; }

if ! browser >/dev/null || ! chinese; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q chromium fonts-wqy-microhei fontconfig >/dev/null
    elif command -v apt-get >/dev/null && sudo -n true 2>/dev/null; then
        sudo apt-get update -q >/dev/null && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -q chromium fonts-wqy-microhei fontconfig >/dev/null
    fi
fi
if browser >/dev/null && chinese; then exit 0; fi
echo "The browser tests need Chromium (or Chrome) and a Chinese font. Install them and run 'make test' again:"
echo "    Debian, Ubuntu   sudo apt-get install chromium fonts-wqy-microhei fontconfig"
echo "    Fedora           sudo dnf install chromium wqy-microhei-fonts"
echo "    macOS            brew install --cask chromium && brew install fontconfig   (a Chinese font is there)"
echo "'make check' runs the tests that need no browser."
exit 1
