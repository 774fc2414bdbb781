package attack

// JournalDir returns where the journals of this user are. It makes nothing.
func JournalDir() (string, error) { return journalDir() }
