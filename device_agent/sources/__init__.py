"""Where clips come from: files, watched folders, cameras and microphones."""
